"""Translate BEiT-3 weights between layouts: ``beit3_to_mmbeit3.py SRC DST [--check]``."""

from __future__ import annotations

import argparse

from mmbeit3.apis.console import run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(
        description="Write the vision tower of an official beit3_*.pth, of a timm file or of this "
        "project's (a detector's backbone too) in this project's layout, or back in the official "
        "one. Training reads all of them as they are: this is for looking, sharing and checking."
    )
    parser.add_argument("source", metavar="SRC", help="a file, https:// or hf://")
    parser.add_argument("target", metavar="DST", help="NAME.pth or NAME.safetensors")
    parser.add_argument("--to", choices=("mmbeit3", "official"), default="mmbeit3")
    parser.add_argument(
        "--check",
        action="store_true",
        help="before writing, run SRC and DST on a random image and compare every layer (official "
        "and timm layouts are run by timm), and translate back and compare every bit",
    )
    parser.add_argument(
        "--trust", action="store_true", help="let SRC build any Python object, that is run any code"
    )
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()

    from mmbeit3.apis.converting import convert_checkpoint

    convert_checkpoint(args.source, args.target, args.to, args.check, args.trust)


if __name__ == "__main__":
    run(main)
