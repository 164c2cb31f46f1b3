"""Train a model: ``mmbeit3 train CONFIG``."""

from __future__ import annotations

import argparse
import os

from mmbeit3.commands.beginning import check_model, check_weights
from mmbeit3.commands.console import add_cfg_options, add_launcher

HELP = "train a model"
DESCRIPTION = "Train a model."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("config", help="config file, or a name of `mmbeit3 configs`")
    parser.add_argument(
        "--work-dir", help="folder for logs and checkpoints (default: work_dirs/<config name>)"
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (bfloat16)")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate from the recipe's batch size to the one that runs, in "
        "place of accumulating gradients",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from this checkpoint; without a path, from the work dir's latest",
    )
    add_cfg_options(parser)
    add_launcher(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    config = check_model(args.config, args.cfg_options)
    if args.resume and args.resume != "auto":
        check_weights(args.resume)
    return f"training {config}"


def run(args: argparse.Namespace) -> int | None:
    """Run the command."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from mmbeit3.apis.training import train
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options
    from mmbeit3.engine import Terminated

    cfg = load_config(args.config, parse_options(args.cfg_options), args.work_dir)
    cfg.launcher = args.launcher
    resume = True if args.resume == "auto" else args.resume or False
    try:
        train(cfg, resume=resume, amp=args.amp, scale_lr=args.auto_scale_lr)
    except Terminated as error:
        return error.status
    return None
