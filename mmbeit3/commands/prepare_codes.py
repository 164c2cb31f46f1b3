"""Compute the codes of a pretraining's images once: ``mmbeit3 prepare-codes CONFIG``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_model
from mmbeit3.commands.console import add_cfg_options

HELP = "compute the image tokenizer's codes of a pretraining's images"
DESCRIPTION = (
    "Compute the codes of all images whose pipeline has LoadImageCodes, and keep them in the file "
    "that it names, so that the training need not run the image tokenizer. Images whose codes are "
    "there and that have not changed are not computed again; a run that was stopped goes on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("config", help="config file, or a name of `mmbeit3 configs`")
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    return f"reading {check_model(args.config, args.cfg_options)}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.image_codes import prepare_codes
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options

    for file, number in prepare_codes(load_config(args.config, parse_options(args.cfg_options))):
        print(f"{number:,} images have codes in {file}")
