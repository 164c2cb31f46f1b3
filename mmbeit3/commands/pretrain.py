"""Pretrain on a folder of images: ``mmbeit3 pretrain --images DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_files
from mmbeit3.utils import InputError

HELP = "pretrain on a folder of unlabeled images"
DESCRIPTION = (
    "Learn from images without labels: train an image tokenizer on a folder, then pretrain BEiT-3 "
    "by masked data modeling. The result is a file that detectors, segmentors and other models "
    "start from. Configs, checkpoints and logs are in --out; with the same --out it goes on where "
    "it stopped. tiny starts from random weights and trains on two CPU cores; base goes on from "
    "the official weights with the official image tokenizer."
)
EPILOG = (
    "Images are searched in all folders below DIR; those that cannot be read are counted and left "
    "out, and a tenth is kept for validation. Text files are in UTF-8. A table (.csv with a "
    "header, .tsv, .jsonl) has the columns image, a path below DIR, and text."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument(
        "--texts", type=Path, nargs="+", default=[], metavar="FILE", help="text files"
    )
    parser.add_argument(
        "--pairs", type=Path, metavar="TABLE", help="a table of images and their texts"
    )
    parser.add_argument("--size", choices=("tiny", "base"), help="(default: tiny)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pretraining"),
        metavar="DIR",
        help="folder of configs and results (default: pretraining)",
    )
    parser.add_argument(
        "--teacher",
        metavar="NAME",
        help="what the image tokenizer learns from: edges, hog (directions of gradients), pixels, "
        "or a model of timm (default: edges for tiny; base takes the official image tokenizer)",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="that of the texts (default: one trained on them for tiny, beit3.spm for base)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--iters",
        type=int,
        metavar="N",
        help="steps of the pretraining (default: by the number of images, from 1000 on)",
    )
    length.add_argument(
        "--minutes", type=float, metavar="M", help="about how long both trainings take together"
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    from mmbeit3.apis.new_config import existing_folder

    if args.images is not None:
        existing_folder(args.images, "images")
    check_files(args, "pairs", "tokenizer")
    for file in args.texts:
        check_files(argparse.Namespace(texts=file), "texts")
    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out} is a file; expected a folder for results", "out")
    return f"pretraining in {args.out}"


def run(args: argparse.Namespace) -> int | None:
    """Run the command."""
    from mmbeit3.apis.pretraining import describe_use, pretrain
    from mmbeit3.engine import Terminated

    names = ("images", "texts", "pairs", "size", "out", "teacher", "tokenizer", "iters", "minutes")
    try:
        weights = pretrain(**{name: getattr(args, name) for name in names})
    except Terminated as error:
        print(f"to go on: mmbeit3 pretrain --out {args.out}")
        return error.status
    print(describe_use(weights))
    return None
