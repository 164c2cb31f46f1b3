"""Draw learning curves: the script of ``mmbeit3 curves``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("curves")
