"""Generate the trial data set of shapes: ``mmbeit3 make-shapes --out data/shapes``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "generate the trial data set of shapes"
DESCRIPTION = "Generate pictures of shapes with boxes, masks and label maps, for trials."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/shapes"),
        help="folder to create (default data/shapes)",
    )
    parser.add_argument("--train", type=int, default=400, help="training images (default 400)")
    parser.add_argument("--val", type=int, default=80, help="held-out images (default 80)")
    parser.add_argument("--size", type=int, default=128, help="width = height (default 128 px)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default 0)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.shapes import make_shapes

    out = make_shapes(args.out, args.train, args.val, args.size, args.seed, progress=True)
    print(f"{args.train} training and {args.val} held-out images are in {out}")
    print(f"annotations: {out / 'annotations' / 'train.json'}, {out / 'annotations' / 'val.json'}")
