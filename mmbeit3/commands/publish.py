"""Prepare a checkpoint for others: ``mmbeit3 publish IN OUT``; OUT is a file or on the Hub."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_weights
from mmbeit3.utils import InputError

HELP = "give a model to others: a file, or a repository of the Hugging Face Hub"
DESCRIPTION = (
    "Write a checkpoint's weights and meta (config, classes) without the states of "
    "optimizer and schedule; the first 8 digits of its SHA-256 go into the name. To "
    "hf://OWNER/NAME it uploads them, as model.safetensors, with the config, the tokenizer if "
    "there is one, and a model card; log in first by `hf auth login`."
)
HUB = "hf://"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", metavar="IN", help="checkpoint: a file, https:// or hf://")
    parser.add_argument(
        "target", metavar="OUT", help="NAME.pth, NAME.safetensors or hf://OWNER/NAME"
    )
    parser.add_argument(
        "--half", action="store_true", help="round the weights to float16: half the size"
    )
    hub = parser.add_argument_group("for hf://OWNER/NAME")
    hub.add_argument(
        "--to", metavar="FOLDER", help="write what would be uploaded here, and send nothing"
    )
    hub.add_argument(
        "--license", metavar="ID", help="of the weights, as the Hub spells it: apache-2.0, mit, ..."
    )
    hub.add_argument(
        "--data-note", metavar="TEXT", help="a sentence for the model card on the training data"
    )
    hub.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--trust", action="store_true", help="let IN build any Python object, that is run any code"
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_weights(args.source)
    if args.target.startswith(HUB):
        if args.to is None:
            _check_login()
        return f"reading {args.source}"
    for name in ("to", "license", "data_note", "private"):
        if getattr(args, name):
            raise InputError(f"it is for hf://OWNER/NAME; {args.target} is a file", name)
    return f"reading {args.source}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.target.startswith(HUB):
        _publish_to_hub(args)
        return

    from mmbeit3.checkpoint.saving import publish_checkpoint

    published = publish_checkpoint(args.source, args.target, args.trust, args.half)
    dropped = ", ".join(published.dropped) or "nothing"
    print(f"left out: {dropped}")
    print(f"wrote {published.path} ({published.path.stat().st_size / 1e6:.1f} MB)")


def _publish_to_hub(args: argparse.Namespace) -> None:
    from mmbeit3.apis.publishing import publish_to_hub, write_repository

    options = {
        "license": args.license,
        "data_note": args.data_note,
        "trust": args.trust,
        "half": args.half,
    }
    if args.to is not None:
        files = write_repository(args.source, args.target, args.to, **options)
        print(f"wrote {', '.join(files)} to {args.to}; nothing was sent")
        return
    commit = publish_to_hub(args.source, args.target, private=args.private, **options)
    print(f"uploaded: {commit}")


def _check_login() -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(
            "there is no login to the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN; "
            "--to FOLDER writes what would be uploaded without one"
        )
