"""Renumber the label maps of COCO-Stuff 164k: the script of ``mmbeit3 prepare-coco-stuff``."""

from mmbeit3.cli import run_script

if __name__ == "__main__":
    run_script("prepare-coco-stuff")
