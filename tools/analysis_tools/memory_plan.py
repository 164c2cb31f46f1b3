"""Predict the memory that training takes: the script of ``mmbeit3 plan-memory``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("plan-memory")
