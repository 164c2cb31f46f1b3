"""Predict the memory that training takes: ``mmbeit3 plan-memory CONFIG``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_model
from mmbeit3.commands.console import add_cfg_options

HELP = "predict the memory that training takes"
DESCRIPTION = (
    "Predict the memory that training takes on each device, from the config alone, "
    "and say which switches make it fit. 1 GiB = 2^30 bytes."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("config", help="config file, or a name of `mmbeit3 configs`")
    parser.add_argument("--gpus", type=int, default=1, help="number of devices (default: 1)")
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="memory of a device, which training is to fit"
    )
    parser.add_argument("--batch-size", type=int, help="images on a device (default: the config's)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of images (default: the config's)",
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="whose rules hold; on the CPU, this one's, training may be in float32 (default: cuda)",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="train two steps on the config's data, on this machine, and compare; without "
        "accumulation and from random weights",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    return f"planning for {check_model(args.config, args.cfg_options)}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.memory_report import report
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options

    report(
        load_config(args.config, parse_options(args.cfg_options)),
        gpus=args.gpus,
        memory=args.memory,
        batch_size=args.batch_size,
        size=args.size and tuple(args.size),
        device=args.device,
        measure=args.measure,
        json=args.json,
    )
