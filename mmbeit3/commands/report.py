"""Show where a model is wrong: ``mmbeit3 report RESULTS --gt TRUTH --out DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

HELP = "show where a model is wrong, in one page"
DESCRIPTION = (
    "Write a page on results, of any program: COCO detections (AP by class and size, confusion, "
    "kinds of errors, calibration), folders of label maps (IoU by class, confusion), answers of "
    "VQAv2 (accuracy by kind of question, confusion), captions; the worst and best images; several "
    "results are compared with the first. Needs the extra mmbeit3[report]."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="one or more: COCO detections, VQAv2's answers, COCO captions, each a JSON list, or "
        "the captions.csv of infer; or folders of label maps (.png), or of a run of infer",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        required=True,
        help="COCO annotations, VQAv2's annotations, or captions as eval-captions takes them; or "
        "the folder of the true label maps",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for report.html and report.json"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of the images; without it the page does not show them"
    )
    parser.add_argument(
        "--iou-type",
        choices=("bbox", "segm"),
        help="of detections: compare boxes or masks (default: bbox)",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        help="of detections: score from which on they are shown and count in the confusion "
        "(default: that of the best F1 of each result)",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        help="of label maps: file with a class a line, that of value 0 first (default: those of "
        "the run of infer, else numbers)",
    )
    parser.add_argument(
        "--reduce-zero-label",
        action="store_true",
        default=None,
        help="of label maps: 0 is no class, and the classes count from 1",
    )
    parser.add_argument("--questions", type=Path, help="of answers: VQAv2's questions file")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="of captions: images of Karpathy's file (default: test)",
    )


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.gt, "ground truth")
    for path in args.results:
        check_exists(path, "results file")
    further = {"image folder": args.images, "class list": args.classes}
    for what, path in (further | {"questions file": args.questions}).items():
        if path is not None:
            check_exists(path, what)
    return f"reporting on {', '.join(map(str, args.results))}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.inference.reports import report

    report(
        args.results,
        args.gt,
        args.out,
        args.images,
        iou_type=args.iou_type,
        score_thr=args.score_thr,
        classes=args.classes,
        reduce_zero_label=args.reduce_zero_label,
        questions=args.questions,
        split=args.split,
    )
