"""Prepare Objects365: ``objects365.py FOLDER`` fills ``data/objects365v2`` (or ``v1``)."""

from __future__ import annotations

import argparse

from mmbeit3.apis.console import run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(
        description="Unpack Objects365, v1 or v2, check every image, cut boxes at the border of "
        "their image, and write annotations of all images that can be used. A run that was "
        "stopped is taken up again."
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="the official files: archives or unpacked images in train/ and val/; annotations "
        "(zhiyuan_objv2_*.json or .tar.gz, or objects365_*.json) there, in annotations/ or in "
        "the folder itself",
    )
    parser.add_argument(
        "--out",
        help="folder to fill (default data/objects365v1 or data/objects365v2); FOLDER again to "
        "work in place",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="go on if more than 1%% of the images are missing or damaged",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each CPU core)")
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()

    from mmbeit3.datasets.converters.objects365 import prepare_objects365

    folder, summaries = prepare_objects365(
        args.folder, args.out, args.partial, args.workers, progress=True
    )
    for summary in summaries:
        print(summary.text())
    print(f"annotations and lists of the images left out are in {folder / 'annotations'}")


if __name__ == "__main__":
    run(main)
