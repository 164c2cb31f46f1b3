"""Score COCO result files: the script of ``mmbeit3 eval-coco``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("eval-coco")
