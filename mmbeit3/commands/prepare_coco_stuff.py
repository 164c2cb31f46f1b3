"""Prepare COCO-Stuff 164k: ``mmbeit3 prepare-coco-stuff stuffthingmaps_trainval2017.zip``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_exists

HELP = "renumber the label maps of COCO-Stuff 164k"
DESCRIPTION = (
    "Number the label maps of COCO-Stuff 0..170, as MMSegmentation expects them, "
    "and link the images of COCO 2017. A run that was stopped is taken up again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("archive", metavar="ZIP", help="stuffthingmaps_trainval2017.zip")
    parser.add_argument(
        "--coco", default="data/coco", help="folder with train2017/ and val2017/ (data/coco)"
    )
    parser.add_argument(
        "--out", default="data/coco_stuff164k", help="folder to fill (data/coco_stuff164k)"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each CPU core)")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.archive, "archive")
    return f"unpacking {args.archive}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.converters.coco_stuff import NUM_TRAIN, NUM_VAL, prepare_coco_stuff

    folder = prepare_coco_stuff(
        args.archive, args.coco, args.out, num_workers=args.workers, progress=True
    )
    print(f"{NUM_TRAIN:,} training and {NUM_VAL:,} validation images are in {folder}")
