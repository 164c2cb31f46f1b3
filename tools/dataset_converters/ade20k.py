"""Unpack and check ADE20K: the script of ``mmbeit3 prepare-ade20k``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("prepare-ade20k")
