"""Score caption results: the script of ``mmbeit3 eval-captions``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("eval-captions")
