"""Say what a checkpoint holds: ``mmbeit3 info CHECKPOINT``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_weights

HELP = "say what a checkpoint holds: model, classes, training state"
DESCRIPTION = (
    "Say what a .pth or .safetensors file holds: model, classes, the state of the training that "
    "wrote it, and whether that can be resumed; of BEiT-3's official files the layout and what "
    "they initialize. No code of the file is run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("checkpoint", help="a file, https:// or hf://")
    parser.add_argument("--json", action="store_true", help="print JSON")


def start(args: argparse.Namespace) -> str | None:
    """Check what needs no PyTorch, and say what begins; nothing before JSON."""
    check_weights(args.checkpoint)
    return None if args.json else f"reading {args.checkpoint}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    import json

    from mmbeit3.apis.checkpoint_info import checkpoint_text, describe_checkpoint

    found = describe_checkpoint(args.checkpoint)
    print(json.dumps(found, indent=2, default=str) if args.json else checkpoint_text(found))
