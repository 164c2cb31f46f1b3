"""Generate the trial data set of shapes: python tools/misc/make_shapes.py --out data/shapes."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.apis.console import run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()
    from mmbeit3.datasets.shapes import make_shapes

    out = make_shapes(args.out, args.train, args.val, args.size, args.seed, progress=True)
    print(f"{args.train} training and {args.val} held-out images are in {out}")
    print(f"annotations: {out / 'annotations' / 'train.json'}, {out / 'annotations' / 'val.json'}")


if __name__ == "__main__":
    run(main)
