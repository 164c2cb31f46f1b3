"""Prepare a training's checkpoint for others: ``mmbeit3 publish IN OUT`` writes OUT-HASH."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_weights

HELP = "strip a checkpoint down to what others need"
DESCRIPTION = (
    "Write a checkpoint's weights and meta (config, classes) without the states of "
    "optimizer and schedule; the first 8 digits of its SHA-256 go into the name."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", metavar="IN", help="checkpoint: a file, https:// or hf://")
    parser.add_argument("target", metavar="OUT", help="NAME.pth or NAME.safetensors")
    parser.add_argument(
        "--trust", action="store_true", help="let IN build any Python object, that is run any code"
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_weights(args.source)
    return f"reading {args.source}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.checkpoint.saving import publish_checkpoint

    published = publish_checkpoint(args.source, args.target, args.trust)
    dropped = ", ".join(published.dropped) or "nothing"
    print(f"left out: {dropped}")
    print(f"wrote {published.path} ({published.path.stat().st_size / 1e6:.1f} MB)")
