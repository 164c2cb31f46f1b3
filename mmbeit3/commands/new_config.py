"""Write a config for own data: ``mmbeit3 new-config --coco train.json --images DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a config for your own COCO-format data"
DESCRIPTION = (
    "Write a short config that trains a detector on your own COCO-format data, from any folder. "
    "Without --val a fifth of the training images, the same each time, are kept for validation; "
    "the two annotation files are written next to the config. tiny and small start from random "
    "weights and train on two CPU cores; base and large start from the official weights."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--coco", type=Path, required=True, metavar="TRAIN.json", help="annotations to train on"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of their images"
    )
    parser.add_argument("--val", type=Path, metavar="VAL.json", help="annotations to validate on")
    parser.add_argument(
        "--val-images", type=Path, metavar="DIR", help="folder of their images (default: --images)"
    )
    parser.add_argument("--size", choices=("tiny", "small", "base", "large"), default="tiny")
    parser.add_argument("--out", type=Path, default=Path("my_config.py"), metavar="FILE.py")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.new_config import write_detection_config

    lines = write_detection_config(
        args.out, args.coco, args.images, args.val, args.val_images, args.size
    )
    print("\n".join(lines))
    print(f"train: mmbeit3 train {args.out}")
