"""Prepare ADE20K: ``mmbeit3 prepare-ade20k ADEChallengeData2016.zip`` fills ``data/ade``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_exists

HELP = "unpack and check ADE20K"
DESCRIPTION = (
    "Check and unpack the official archive of ADE20K's 150 classes, "
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip. A run that was "
    "stopped is taken up again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("archive", metavar="ZIP", help="ADEChallengeData2016.zip")
    parser.add_argument("--out", default="data/ade", help="folder to fill (default data/ade)")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.archive, "archive")
    return f"unpacking {args.archive}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.converters.ade20k import NUM_TRAIN, NUM_VAL, prepare_ade20k

    folder = prepare_ade20k(args.archive, args.out, progress=True)
    print(f"{NUM_TRAIN:,} training and {NUM_VAL:,} validation images are in {folder}")
