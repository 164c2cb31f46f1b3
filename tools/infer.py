"""Find objects or classes in a folder of images, with pictures: the script of ``mmbeit3 infer``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("infer")
