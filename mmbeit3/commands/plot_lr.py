"""Draw the learning rates of a training: ``mmbeit3 plot-lr CONFIG``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_model
from mmbeit3.commands.console import add_cfg_options

HELP = "draw the learning rates of a training"
DESCRIPTION = (
    "Draw the learning rate of every layer over the training of a config, by the "
    "schedulers that train it, without training. The rates are those of the config, not scaled "
    "by train --auto-scale-lr."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("config", help="config file, or a name of `mmbeit3 configs`")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("lr.png"),
        help="the picture; the numbers go to a .json beside it (default: lr.png)",
    )
    parser.add_argument(
        "--epoch-iters",
        type=int,
        metavar="N",
        help="iterations of an epoch, for configs that count in epochs (default: the batches of "
        "the training set)",
    )
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    return f"reading {check_model(args.config, args.cfg_options)}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.lr_plot import report
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options

    report(load_config(args.config, parse_options(args.cfg_options)), args.out, args.epoch_iters)
