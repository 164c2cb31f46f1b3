"""Show where a model is wrong: the script of ``mmbeit3 report``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("report")
