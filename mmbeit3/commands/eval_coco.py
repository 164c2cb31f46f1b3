"""Score COCO result files again: ``mmbeit3 eval-coco GT.json RESULTS.json``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

HELP = "score COCO result files"
DESCRIPTION = "Score COCO result files again, without a model."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("ground_truth", type=Path, help="COCO annotation file")
    parser.add_argument("results", type=Path, help="COCO results: a list of detections")
    parser.add_argument("--iou-type", nargs="+", choices=("bbox", "segm"), default=["bbox"])
    parser.add_argument(
        "--backend", choices=("faster-coco-eval", "pycocotools"), default="faster-coco-eval"
    )
    parser.add_argument("--classwise", action="store_true", help="add a table of the classes")
    parser.add_argument(
        "--max-dets",
        type=int,
        nargs="+",
        default=(1, 10, 100),
        metavar="N",
        help="detections of a class in an image that count at most: AR for each number, all else "
        "for the largest (default: 1 10 100)",
    )
    parser.add_argument("--out", type=Path, help="write the unrounded numbers to this JSON file")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.ground_truth, "annotation file")
    check_exists(args.results, "results file")
    return f"evaluating {args.results}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.evaluation.coco import class_rows, evaluate_coco, format_table

    metrics = {
        iou_type: evaluate_coco(
            args.ground_truth,
            args.results,
            iou_type,
            args.backend,
            args.classwise,
            max_dets=args.max_dets,
        )
        for iou_type in args.iou_type
    }
    print(format_table(metrics))
    for iou_type, values in metrics.items() if args.classwise else ():
        print(f"{iou_type} by class\n{format_table(class_rows(values))}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(metrics, indent=2) + "\n")
        print(f"the numbers are in {args.out}")
