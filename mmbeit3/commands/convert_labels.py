"""Convert labels between formats: ``mmbeit3 convert-labels data.yaml train.json --to coco``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

FORMATS = ("coco", "voc", "yolo", "labelme", "csv", "geojson", "label-studio", "cvat", "png")
READ = (*FORMATS[:-1], "infer")

HELP = "convert labels between COCO, VOC, YOLO, LabelMe, CVAT, Label Studio, ..."
DESCRIPTION = (
    "Convert labels of boxes and masks from one format to another. What the other format cannot "
    "hold is said, with a count."
)
EPILOG = (
    "SOURCE is a file (COCO, CSV, Label Studio, CVAT for images), a folder (YOLO with data.yaml or "
    "classes.txt, Pascal VOC, LabelMe, GeoJSON in pixels), or the --out-dir of mmbeit3 infer. "
    "TARGET is a file or a folder in the same way; png is a folder of class maps."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("source", type=Path, help="file or folder of labels")
    parser.add_argument("target", type=Path, help="file or folder to write")
    parser.add_argument(
        "--from",
        dest="source_format",
        choices=READ,
        help="format of SOURCE (default: told by what is there)",
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        choices=FORMATS,
        help="format of TARGET (default for .csv: csv, for .xml: cvat)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, searched recursively: gives and checks their sizes",
    )
    parser.add_argument("--split", help="part of SOURCE, such as train or val (YOLO, VOC)")
    parser.add_argument(
        "--score-thr", type=float, help="leave out predictions of a lower score (default: none)"
    )
    parser.add_argument(
        "--copy-images",
        action="store_true",
        help="copy the images to where TARGET's format wants them (yolo, voc, labelme)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.source, "label file or folder")
    return f"converting {args.source} to {args.target}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.label_conversion import convert_labels

    lines = convert_labels(
        args.source,
        args.target,
        args.source_format,
        args.target_format,
        images=args.images,
        split=args.split,
        score_thr=args.score_thr,
        copy_images=args.copy_images,
        overwrite=args.overwrite,
    )
    print("\n".join(lines))
