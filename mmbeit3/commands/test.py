"""Evaluate a checkpoint: ``mmbeit3 test CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import PurePosixPath

from mmbeit3.commands.beginning import check_model, check_weights, holds_config
from mmbeit3.commands.console import add_acceleration, add_cfg_options, add_launcher, add_tta
from mmbeit3.utils import InputError

HELP = "evaluate a checkpoint"
DESCRIPTION = (
    "Evaluate a checkpoint on the config's test set; the metrics are printed and "
    "written to metrics.json in the work dir, a segmentor's also for each class."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "config",
        help="config file, or a name of `mmbeit3 configs`; or a checkpoint alone that holds its "
        "config, hf://OWNER/NAME too",
    )
    parser.add_argument(
        "checkpoint", nargs="?", help="checkpoint: a file, https:// or hf://OWNER/NAME"
    )
    parser.add_argument(
        "--work-dir", help="folder for the log and the metrics (default: work_dirs/<config name>)"
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="keep the predictions; a detector's as NAME.pkl, or NAME.json for NAME.bbox.json and "
        "NAME.segm.json; a segmentor's in this folder, a PNG for each image with the values that "
        "its label map has (with reduce_zero_label the class number + 1); of VQA and captioning "
        "(.json) and NLVR2 (.csv) in the file that the official server takes; of retrieval the "
        "rank of each image and text (.json)",
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw every image: ground truth left, prediction right"
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="write a page on where the model is wrong, as mmbeit3 report does; needs the extra "
        "mmbeit3[report]",
    )
    add_tta(parser)
    add_acceleration(parser)
    add_cfg_options(parser)
    add_launcher(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    if args.checkpoint is None:
        if not holds_config(args.config):
            raise InputError("the checkpoint is missing; expected config and checkpoint")
        check_weights(args.config)
        return f"testing {args.config}"
    config = check_model(args.config, args.cfg_options, args.checkpoint)
    return f"testing {args.checkpoint} by {config}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from mmbeit3.apis.testing import test
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options
    from mmbeit3.config.options import apply_options
    from mmbeit3.inference.loading import saved_run

    options = parse_options(args.cfg_options)
    with ExitStack() as stack:
        if args.checkpoint is None:
            args.checkpoint, cfg = stack.enter_context(saved_run(args.config))
            apply_options(cfg, options)
            name = PurePosixPath(args.config).stem
            cfg.work_dir = args.work_dir or f"work_dirs/{name}"
        else:
            cfg = load_config(args.config, options, args.work_dir)
        cfg.launcher = args.launcher
        test(
            cfg,
            args.checkpoint,
            out=args.out,
            show_dir=args.show_dir,
            tta=args.tta,
            dtype=args.dtype,
            compiles=args.compile,
            force=args.force,
            report=args.report,
        )
