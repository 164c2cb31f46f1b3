"""Check the data sets of a config, or a COCO file: ``mmbeit3 check-data CONFIG``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmbeit3.commands.beginning import check_exists, check_model
from mmbeit3.commands.console import add_cfg_options
from mmbeit3.utils import InputError

SPLITS = ("train", "val", "test")

HELP = "check the data sets of a config, or a COCO file"
DESCRIPTION = (
    "Check annotations, images and label maps; count classes; draw samples. The "
    "exit status is 1 if there are errors."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("data", type=Path, help="config file, or a COCO file with --images")
    parser.add_argument("--images", type=Path, help="folder of the images of a COCO file")
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="all", help="data sets of the config to check"
    )
    parser.add_argument(
        "--out-dir", type=Path, default=Path("data_check"), help="folder (default: data_check)"
    )
    parser.add_argument(
        "--decode", action="store_true", help="decode all images: finds damage in their middle"
    )
    parser.add_argument(
        "--num-samples", type=int, default=12, help="pictures of each data set (default: 12)"
    )
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    if args.images:
        check_exists(args.data, "annotation file")
        check_exists(args.images, "folder")
    elif args.data.suffix == ".json":
        raise InputError("a COCO file needs the folder of its images: --images FOLDER")
    else:
        check_model(args.data, args.cfg_options)
    return f"checking {args.data}"


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 means that the data have errors."""
    from mmbeit3.apis.data_report import report_coco, report_config
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options

    options = args.out_dir, args.decode, args.num_samples
    if args.images:
        reports = report_coco(args.data, args.images, *options)
    else:
        cfg = load_config(args.data, parse_options(args.cfg_options))
        splits = SPLITS if args.split == "all" else (args.split,)
        reports = report_config(cfg, splits, *options)
    errors = sum(report.num_errors for report in reports)
    print(f"samples: {args.out_dir / 'samples.html'}")
    text = f"{errors:,} error{'s' * (errors != 1)}; report: {args.out_dir / 'report.json'}"
    print(text, file=sys.stderr if errors else sys.stdout)
    return int(errors > 0)
