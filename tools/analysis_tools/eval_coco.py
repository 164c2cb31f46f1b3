"""Score COCO result files again: python tools/analysis_tools/eval_coco.py GT.json RESULTS.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmbeit3.evaluation.coco import BACKENDS, IOU_TYPES, class_rows, evaluate_coco, format_table
from mmbeit3.utils import InputError


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ground_truth", type=Path, help="COCO annotation file")
    parser.add_argument("results", type=Path, help="COCO results: a list of detections")
    parser.add_argument("--iou-type", nargs="+", choices=IOU_TYPES, default=["bbox"])
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--classwise", action="store_true", help="add a table of the classes")
    parser.add_argument("--out", type=Path, help="write the unrounded numbers to this JSON file")
    return parser.parse_args()


def main() -> int:
    """Run the command; 2 means that the input cannot be used."""
    args = parse_args()
    try:
        metrics = {
            iou_type: evaluate_coco(
                args.ground_truth, args.results, iou_type, args.backend, args.classwise
            )
            for iou_type in args.iou_type
        }
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_table(metrics))
    for iou_type, values in metrics.items() if args.classwise else ():
        print(f"{iou_type} by class\n{format_table(class_rows(values))}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(metrics, indent=2) + "\n")
        print(f"the numbers are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
