"""Evaluate a checkpoint: the script of ``mmbeit3 test``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("test")
