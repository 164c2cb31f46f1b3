"""Draw the learning curves of trainings: ``mmbeit3 curves work_dirs/a work_dirs/b``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

HELP = "draw loss, learning rate and metrics of trainings"
DESCRIPTION = (
    "Draw loss, learning rate and metrics of one or more trainings from their logs, parts of a "
    "resumed one joined: a picture, and a page beside it. Needs the extra mmbeit3[report]."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("work_dirs", type=Path, nargs="+", help="folders of trainings")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("curves.png"),
        help="the picture; the page goes to an .html beside it (default: curves.png)",
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    for folder in args.work_dirs:
        check_exists(folder, "work dir")
    return f"reading the logs of {', '.join(map(str, args.work_dirs))}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.curves import draw_curves

    draw_curves(args.work_dirs, args.out)
