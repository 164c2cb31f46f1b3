"""Unpack and check Objects365: the script of ``mmbeit3 prepare-objects365``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("prepare-objects365")
