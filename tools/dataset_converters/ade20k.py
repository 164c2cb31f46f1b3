"""Prepare ADE20K: ``ade20k.py ADEChallengeData2016.zip`` fills ``data/ade``."""

from __future__ import annotations

import argparse

from mmbeit3.apis.console import run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(
        description="Check and unpack the official archive of ADE20K's 150 classes, "
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip. A run that was "
        "stopped is taken up again."
    )
    parser.add_argument("archive", metavar="ZIP", help="ADEChallengeData2016.zip")
    parser.add_argument("--out", default="data/ade", help="folder to fill (default data/ade)")
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()

    from mmbeit3.datasets.converters.ade20k import NUM_TRAIN, NUM_VAL, prepare_ade20k

    folder = prepare_ade20k(args.archive, args.out, progress=True)
    print(f"{NUM_TRAIN:,} training and {NUM_VAL:,} validation images are in {folder}")


if __name__ == "__main__":
    run(main)
