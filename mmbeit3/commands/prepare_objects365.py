"""Prepare Objects365: ``mmbeit3 prepare-objects365 FOLDER`` fills ``data/objects365v2``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_exists

HELP = "unpack and check Objects365"
DESCRIPTION = (
    "Unpack Objects365, v1 or v2, check every image, cut boxes at the border of "
    "their image, and write annotations of all images that can be used. A run that was "
    "stopped is taken up again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
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


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.folder, "folder")
    return f"reading {args.folder}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.datasets.converters.objects365 import prepare_objects365

    folder, summaries = prepare_objects365(
        args.folder, args.out, args.partial, args.workers, progress=True
    )
    for summary in summaries:
        print(summary.text())
    print(f"annotations and lists of the images left out are in {folder / 'annotations'}")
