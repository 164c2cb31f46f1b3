"""Train a model: ``python tools/train.py CONFIG``. Install the package first."""

from __future__ import annotations

import argparse
import os

from mmbeit3.apis.console import add_cfg_options, add_launcher, run


def parse_args() -> argparse.Namespace:
    """Read the command line; imports that take seconds come after it."""
    parser = argparse.ArgumentParser(description="Train a model.")
    parser.add_argument("config", help="config file")
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
    return parser.parse_args()


def main() -> int | None:
    """Do what the command line asks for."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from mmbeit3.apis.training import train
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.options import parse_options
    from mmbeit3.engine import Terminated

    cfg = load_config(args.config, parse_options(args.cfg_options), args.work_dir)
    cfg.launcher = args.launcher
    resume = True if args.resume == "auto" else args.resume or False
    try:
        train(cfg, resume=resume, amp=args.amp, scale_lr=args.auto_scale_lr)
    except Terminated as error:
        return error.status
    return None


if __name__ == "__main__":
    run(main)
