"""Prepare a training's checkpoint for others: ``publish_model.py IN OUT`` writes OUT-HASH."""

from __future__ import annotations

import argparse

from mmbeit3.apis.console import run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(
        description="Write a checkpoint's weights and meta (config, classes) without the states of "
        "optimiser and schedule; the first 8 digits of its SHA-256 go into the name."
    )
    parser.add_argument("source", metavar="IN", help="checkpoint: a file, https:// or hf://")
    parser.add_argument("target", metavar="OUT", help="NAME.pth or NAME.safetensors")
    parser.add_argument(
        "--trust", action="store_true", help="let IN build any Python object, that is run any code"
    )
    return parser.parse_args()


def main() -> None:
    """Do what the command line asks for."""
    args = parse_args()

    from mmbeit3.checkpoint.saving import publish_checkpoint

    published = publish_checkpoint(args.source, args.target, args.trust)
    dropped = ", ".join(published.dropped) or "nothing"
    print(f"left out: {dropped}")
    print(f"wrote {published.path} ({published.path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
