"""Train a model: the script of ``mmbeit3 train``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("train")
