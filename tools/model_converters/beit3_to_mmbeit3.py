"""Translate BEiT-3 weights between layouts: the script of ``mmbeit3 convert``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("convert")
