"""Strip a checkpoint down to what others need: the script of ``mmbeit3 publish``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("publish")
