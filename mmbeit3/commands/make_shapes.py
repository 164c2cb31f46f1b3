"""Generate the trial data set of shapes: ``mmbeit3 make-shapes --out data/shapes``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "generate the trial data set of shapes"
DESCRIPTION = (
    "Generate pictures of shapes with boxes, masks, label maps and captions, and a small tokenizer "
    "of such captions, for trials."
)


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
    parser.add_argument(
        "--held-out",
        type=int,
        default=0,
        metavar="N",
        help="combinations of color and shape that no training caption names (default 0)",
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.shape_captions import any_sentences
    from mmbeit3.datasets.shapes import make_shapes
    from mmbeit3.text import train_tokenizer

    sizes = (args.train, args.val, args.size, args.seed)
    out = make_shapes(args.out, *sizes, progress=True, held_out=args.held_out)
    tokenizer = train_tokenizer(any_sentences(), out / "captions.spm")
    print(f"{args.train} training and {args.val} held-out images are in {out}")
    annotations = out / "annotations"
    print(f"annotations: {annotations / 'train.json'}, {annotations / 'val.json'}")
    print(f"captions: {annotations / 'captions_train.json'}, {annotations / 'captions_val.json'}")
    print(f"tokenizer of the captions: {tokenizer}")
