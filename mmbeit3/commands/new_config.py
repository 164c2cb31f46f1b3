"""Write a config for own data: ``mmbeit3 new-config --coco train.json --images DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_exists, check_files
from mmbeit3.utils import InputError, listed

HELP = "write a config for your own data: annotations, masks, captions, questions or statements"
DESCRIPTION = (
    "Write a short config that trains on your own data, from any folder: a detector with --coco "
    "TRAIN.json --images DIR or --labels PLACE, a segmentor with --images DIR --masks DIR "
    "--classes NAMES.txt, a model that writes captions, answers questions or judges statements "
    "with --captions, --questions or --statements TABLE --images DIR, one that finds images by "
    "texts with --captions TABLE --retrieval. "
    "Without data to validate on a fifth of the training images, the same each time, is kept for "
    "it; of annotations and masks the two lists are written next to the config. tiny and small "
    "start from random weights and train on two CPU cores; base and large start from the official "
    "weights."
)
EPILOG = (
    "A mask is an 8-bit PNG with the path of its image: images/a/b.jpg and masks/a/b.png. Its "
    "pixels are numbers of lines of NAMES.txt, from 0, and 255 where nothing is known. Objects "
    "without masks (segmentation) give a detector that finds boxes alone. A table (.csv with a "
    "header, .tsv, .jsonl) has the columns image and text (captions), image, question and answer "
    "(questions), or left, right, text and label (statements)."
)
WAYS = (
    "give --coco TRAIN.json --images DIR or --labels PLACE for detection, --images DIR --masks DIR "
    "--classes NAMES.txt for segmentation, or --images DIR and a table by --captions, --questions "
    "or --statements"
)
TABLES = ("captions", "questions", "statements")
# What decides the task, and the options that go with it.
TASKS = {
    "coco": ("detection", ("val",)),
    "labels": ("detection", ("val",)),
    "masks": ("segmentation", ("classes", "val_masks", "reduce_zero_label")),
    **{name: (name, ("val", "tokenizer")) for name in TABLES},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images to train on (with --labels, default: where the format has them)",
    )
    detection = parser.add_argument_group("detection")
    detection.add_argument(
        "--coco", type=Path, metavar="TRAIN.json", help="annotations of the images, COCO format"
    )
    detection.add_argument(
        "--labels",
        type=Path,
        metavar="PLACE",
        help="labels of another format, which are converted once: a folder of YOLO, Pascal VOC or "
        "LabelMe, an export of CVAT or Label Studio, ... (mmbeit3 convert-labels --help)",
    )
    segmentation = parser.add_argument_group("segmentation")
    segmentation.add_argument("--masks", type=Path, metavar="DIR", help="folder of their masks")
    segmentation.add_argument(
        "--classes", type=Path, metavar="NAMES.txt", help="one class a line, that of value 0 first"
    )
    segmentation.add_argument(
        "--val-masks", type=Path, metavar="DIR", help="folder of the masks of --val-images"
    )
    segmentation.add_argument(
        "--reduce-zero-label",
        action=argparse.BooleanOptionalAction,
        help="0 in masks means unlabeled, and the classes count from 1 (default: found out)",
    )
    texts = parser.add_argument_group("images with texts")
    texts.add_argument(
        "--captions",
        type=Path,
        metavar="TABLE",
        help="captions of the images: a table, or a file in COCO's format (.json)",
    )
    texts.add_argument(
        "--retrieval",
        action="store_true",
        help="with --captions: learn to find images by texts and texts by images, not to write",
    )
    texts.add_argument("--questions", type=Path, metavar="TABLE", help="questions and answers")
    texts.add_argument(
        "--statements", type=Path, metavar="TABLE", help="statements about pairs of images"
    )
    texts.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="(default: one trained on the texts for tiny and small, else beit3.spm)",
    )
    both = parser.add_argument_group("all")
    both.add_argument(
        "--val", type=Path, metavar="FILE", help="annotations, or the table, to validate on"
    )
    both.add_argument(
        "--val-images",
        type=Path,
        metavar="DIR",
        help="folder of the images to validate on (with --val, default: --images)",
    )
    both.add_argument("--size", choices=("tiny", "small", "base", "large"), default="tiny")
    both.add_argument("--out", type=Path, default=Path("my_config.py"), metavar="FILE.py")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    from mmbeit3.apis.new_config import existing_folder

    _check_combination(args)
    for name in ("images", "masks", "val_images", "val_masks"):
        if (folder := getattr(args, name)) is not None:
            existing_folder(folder, name)
    check_files(args, "coco", "classes", *TABLES, "tokenizer", *(() if args.labels else ("val",)))
    for place in (args.labels, args.val):
        if args.labels and place:
            check_exists(place, "label file or folder")
    return f"reading {getattr(args, _given(args)[0])}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    name = _given(args)[0]
    if name in TABLES:
        from mmbeit3.apis.new_text_config import write_text_config

        kind = "retrieval" if args.retrieval else name
        table = getattr(args, name)
        lines = write_text_config(
            *(args.out, kind, table, args.images, args.val, args.val_images, args.size),
            tokenizer=args.tokenizer,
        )
    elif args.labels:
        from mmbeit3.apis.new_detection_config import write_config_for_labels

        lines = write_config_for_labels(
            args.out, args.labels, args.images, args.val, args.val_images, args.size
        )
    elif args.coco:
        from mmbeit3.apis.new_detection_config import write_detection_config

        lines = write_detection_config(
            args.out, args.coco, args.images, args.val, args.val_images, args.size
        )
    else:
        from mmbeit3.apis.new_segmentation_config import write_segmentation_config

        try:
            lines = write_segmentation_config(
                args.out,
                args.images,
                args.masks,
                args.classes,
                args.val_images,
                args.val_masks,
                args.size,
                args.reduce_zero_label,
            )
        except InputError as error:
            if "reduce_zero_label" not in str(error):
                raise
            raise InputError(
                f"{error} (here: --reduce-zero-label or --no-reduce-zero-label)"
            ) from error
    print("\n".join(lines))
    print(f"train: mmbeit3 train {args.out}")


def _given(args: argparse.Namespace) -> list[str]:
    return [name for name in TASKS if getattr(args, name)]


def _check_combination(args: argparse.Namespace) -> None:
    given = _given(args)
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given)
        found = f"both {found}" if given else f"none of {listed(f'--{name}' for name in TASKS)}"
        raise InputError(f"{found} given: {WAYS}")
    if args.images is None and not args.labels:
        raise InputError("is needed: the folder of images to train on", "images")
    if args.retrieval and not args.captions:
        raise InputError("needs --captions TABLE: the texts by which images are found", "retrieval")
    task, options = TASKS[given[0]]
    if args.masks and not args.classes:
        raise InputError(
            "--masks needs --classes NAMES.txt: one class a line, that of value 0 of the masks "
            "first (often 'background')"
        )
    for name in dict.fromkeys(name for _, names in TASKS.values() for name in names):
        if name not in options and getattr(args, name) is not None:
            is_named = name == "classes" and args.coco
            cure = "the classes are those of TRAIN.json" if is_named else WAYS
            raise InputError(f"is not for {task}: leave it out, or {cure}", name)
