"""Show where detectors are wrong: ``mmbeit3 report RESULTS --gt ANN --out DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

HELP = "show where a detector is wrong, in one page"
DESCRIPTION = (
    "Write a page on COCO results, of any program: AP by class and size, precision and recall, "
    "confusion, kinds of errors, calibration, the best thresholds, the worst and best images; "
    "several results are compared with the first. Needs the extra mmbeit3[report]."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "results", type=Path, nargs="+", help="COCO results: a list of detections; one or more"
    )
    parser.add_argument("--gt", type=Path, required=True, help="COCO annotation file")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for report.html and report.json"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of the images; without it the page has no pictures"
    )
    parser.add_argument(
        "--iou-type",
        choices=("bbox", "segm"),
        default="bbox",
        help="compare boxes or masks (default: bbox)",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        help="score from which on detections are shown and count in the confusion (default: that "
        "of the best F1 of each result)",
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.gt, "annotation file")
    for path in args.results:
        check_exists(path, "results file")
    if args.images is not None:
        check_exists(args.images, "image folder")
    return f"reporting on {', '.join(map(str, args.results))}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.inference.detection_report import report_detections

    report_detections(args.results, args.gt, args.out, args.images, args.iou_type, args.score_thr)
