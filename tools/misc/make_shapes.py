"""Generate the trial data set of shapes: the script of ``mmbeit3 make-shapes``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("make-shapes")
