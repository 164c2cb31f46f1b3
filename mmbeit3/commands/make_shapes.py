"""Generate the trial data set of shapes: ``mmbeit3 make-shapes --out data/shapes``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "generate the trial data set of shapes"
DESCRIPTION = (
    "Generate pictures of shapes with boxes, masks, label maps, captions, questions with answers "
    "and statements about two pictures, and a small tokenizer of such texts, for trials."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/shapes"),
        help="folder to create (default data/shapes)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--crops",
        action="store_true",
        help="write the shapes one by one instead, in folders of classes such as red_disk",
    )
    kind.add_argument(
        "--plain",
        action="store_true",
        help="one pure color a shape on gray ground, easier to learn; not with --crops",
    )
    parser.add_argument(
        "--train", type=int, help="training images (default 400, with --crops 2000)"
    )
    parser.add_argument("--val", type=int, help="held-out images (default 80, with --crops 400)")
    parser.add_argument("--size", type=int, default=128, help="width = height (default 128 px)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default 0)")
    parser.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="combinations of color and shape that no text for training names, or with --crops "
        "that no crop for training shows (default 0, with --crops 8)",
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    return f"drawing images into {args.out}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.shape_crops import make_shape_crops
    from mmbeit3.datasets.shapes import make_shapes, tokenizer_texts
    from mmbeit3.text import train_tokenizer
    from mmbeit3.text.tokenizer import SHAPES_TOKENIZER

    make = make_shape_crops if args.crops else make_shapes
    given = {"num_train": args.train, "num_val": args.val, "held_out": args.held_out}
    given = {name: value for name, value in given.items() if value is not None}
    if args.plain:
        given["plain"] = True
    out = make(args.out, size=args.size, seed=args.seed, progress=True, **given)
    tokenizer = train_tokenizer(tokenizer_texts(), out / SHAPES_TOKENIZER)
    if args.crops:
        counts = {s: len(list(out.glob(f"{s}/*/*.jpg"))) for s in ("train", "val", "unseen")}
        text = ", ".join(f"{count} in {out / name}" for name, count in counts.items())
        print(f"crops: {text}, of classes that training does not show")
        print(f"tokenizer of their names: {tokenizer}")
        return
    counts = {s: len(list(out.glob(f"{s}/*.jpg"))) for s in ("train", "val")}
    print(f"{counts['train']} training and {counts['val']} held-out images are in {out}")
    annotations = out / "annotations"
    print(f"annotations: {annotations / 'train.json'}, {annotations / 'val.json'}")
    print(f"captions: {annotations / 'captions_train.json'}, {annotations / 'captions_val.json'}")
    print(f"questions: {annotations / 'questions_train.json'}, with answers_train.json, ...")
    print(f"statements: {annotations / 'statements_train.jsonl'}, ...")
    print(f"tokenizer of the texts: {tokenizer}")
