"""Check the data sets of a config, or a COCO file: the script of ``mmbeit3 check-data``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("check-data")
