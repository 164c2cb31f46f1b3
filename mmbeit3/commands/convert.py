"""Translate BEiT-3 weights between layouts: ``mmbeit3 convert SRC DST``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_weights

HELP = "translate BEiT-3 weights between layouts"
DESCRIPTION = (
    "Write the vision tower of an official beit3_*.pth, of a timm file or of this "
    "project's (a detector's backbone too) in this project's layout, or back in the official "
    "one. Training reads all of them as they are: this is for looking, sharing and checking."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", metavar="SRC", help="a file, https:// or hf://")
    parser.add_argument("target", metavar="DST", help="NAME.pth or NAME.safetensors")
    parser.add_argument(
        "--all",
        action="store_true",
        help="translate the text tower and the heads, too, of an official file or of a model of "
        "this project whose task was released, such as retrieval",
    )
    parser.add_argument("--to", choices=("mmbeit3", "official"), default="mmbeit3")
    parser.add_argument(
        "--check",
        action="store_true",
        help="before writing, run SRC and DST on a random image and compare every layer (official "
        "and timm layouts are run by timm, official texts by torchscale if it is installed), and "
        "translate back and compare every bit",
    )
    parser.add_argument(
        "--trust", action="store_true", help="let SRC build any Python object, that is run any code"
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_weights(args.source)
    return f"reading {args.source}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.converting import convert_checkpoint

    convert_checkpoint(args.source, args.target, args.to, args.check, args.trust, args.all)
