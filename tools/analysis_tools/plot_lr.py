"""Draw the learning rates of a training: the script of ``mmbeit3 plot-lr``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("plot-lr")
