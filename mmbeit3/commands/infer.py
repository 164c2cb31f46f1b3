"""Run a model over a folder of images: results, pictures, and a summary.

Exit status: 0 when every image was done, 1 when some could not be read or their pictures not be
written, 2 for wrong arguments or a full disk, 130 after Ctrl-C. Of several processes the first has
it, and the others 0.
"""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmbeit3.commands.beginning import (
    EXPORTED,
    WEIGHTS,
    check_files,
    check_model,
    check_weights,
    holds_config,
)
from mmbeit3.commands.console import (
    INTERRUPT_STATUS,
    add_acceleration,
    add_cfg_options,
    add_launcher,
    add_tta,
)
from mmbeit3.commands.convert_labels import FORMATS
from mmbeit3.utils import InputError

HELP = "run a model over a folder of images, with pictures"
DESCRIPTION = (
    "Detect objects in a folder of images, segment, classify or caption them, search them by "
    "texts, or ask about them: the config says which."
)
EPILOG = (
    "A detector writes results.json, a COCO results list with every detection that the "
    "model returns, whatever its score; image and category ids are those in summary.json. A "
    "segmentor writes labels/, 8-bit PNGs as large as the images whose values are indices of "
    "classes; summary.json names them, with their share of the pixels. A dual encoder (retrieval) "
    "writes features.safetensors, which the next run into the same folder uses again for files "
    "that have not changed, and with --texts ranking.json, ranking.csv and ranking.html, a page of "
    "pictures; with --classes, labels.json, labels.csv and labels.html, as a classifier does. "
    "Captioning writes captions.json, a COCO results list, captions.csv, captions.html and "
    "pictures with their caption; VQA answers.json, answers.csv and answers.html, the five best "
    "answers to each question; NLVR2 judgments.json, judgments.csv and judgments.html. "
    "Pictures are enlarged "
    "or reduced to a size that is comfortable to look at; results never are. Images are turned "
    "as their EXIF data says, transparency becomes white, grays of more than 8 bits are "
    "stretched to the range of the image. Exit status: 0 all images done, 1 some could not be "
    "read, 2 wrong arguments or a full disk, 130 interrupted (what is done is kept: in "
    "unfinished_* if DIR holds the results of a whole run). Several processes divide "
    "the images: torchrun --nproc_per_node 8 -m mmbeit3 infer ... --launcher pytorch, each on a "
    "GPU of its own or, without any, on the CPU. The results are those of one process; the "
    "progress shown is that of the first, over its share."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "config",
        help="config file of the model, or a name of `mmbeit3 configs`; or, in the place of config "
        "and checkpoint, a checkpoint that holds its config, hf://OWNER/NAME, or a file of "
        "`mmbeit3 export`",
    )
    parser.add_argument("checkpoint", help="its weights (.pth, .safetensors or an address)")
    parser.add_argument(
        "folder", nargs="?", help="folder of images, searched recursively, or one image"
    )
    parser.add_argument("--out-dir", required=True, help="where results go; made if absent")
    parser.add_argument(
        "--score-thr",
        type=_score,
        help="draw and count detections of at least this score (default: 0.3; detectors only)",
    )
    parser.add_argument(
        "--texts",
        metavar="FILE",
        help="queries, one a line: rank the images for each (retrieval only)",
    )
    parser.add_argument(
        "--top", type=_positive, help="images of a query (default: 12; retrieval only)"
    )
    parser.add_argument(
        "--questions",
        metavar="FILE",
        help="one a line, asked about every image; or a table (.csv, .tsv, .jsonl) with the "
        "columns image and question (VQA only)",
    )
    parser.add_argument(
        "--show-attention",
        action="store_true",
        default=None,
        help="draw where the model looked for each answer (VQA only)",
    )
    parser.add_argument(
        "--statements",
        metavar="FILE",
        help="a table (.csv, .tsv, .jsonl) with the columns left, right and text (NLVR2 only)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of what to look for, one a line (default: the classes trained; only of a model "
        "that reads names)",
    )
    parser.add_argument(
        "--templates",
        metavar="FILE",
        help="sentences with {} for a name of --classes, one a line, or 'default' (default: the "
        "name alone)",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        help="images per forward pass, fewer where their sizes differ (default: the config's)",
    )
    parser.add_argument(
        "--tile",
        type=_positive,
        metavar="SIDE",
        help="predict images of any size by tiles of SIDE x SIDE pixels, read by window, and join "
        "what is cut (detectors and segmentors; needs the extra mmbeit3[tiles])",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help="the share of a tile that lies in the next, from 0 to below 1 (default: 0.2)",
    )
    parser.add_argument(
        "--num-workers",
        type=_positive,
        help="threads that read and write images (default: CPU cores, at most 4)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda:0, ... (default: auto, a GPU if any)"
    )
    add_tta(parser)
    add_acceleration(parser)
    parser.add_argument(
        "--hide-duplicates",
        action="store_true",
        default=None,
        help="draw no detection that overlaps a surer one; results.json has them all (detectors "
        "only)",
    )
    parser.add_argument(
        "--format",
        "--formats",
        dest="formats",
        nargs="+",
        choices=FORMATS,
        help="write detections from --score-thr on as labels for other programs, too, each format "
        "into a folder of its name (detectors only)",
    )
    parser.add_argument("--no-overlays", action="store_true", help="write no pictures")
    add_cfg_options(parser)
    add_launcher(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    from mmbeit3.utils.image_folders import check_exists

    exported = Path(args.config).suffix.lower() in EXPORTED
    if exported and (args.folder is not None or args.cfg_options):
        raise InputError(
            f"{args.config} holds config and weights; expected the folder of images alone "
            "after it, and no --cfg-options"
        )
    if args.folder is None:
        if not exported and not holds_config(args.config):
            raise InputError(
                "the folder of images is missing; expected config, checkpoint and folder"
            )
        args.checkpoint, args.folder = args.config, args.checkpoint
        check_weights(args.config)
        check_exists(Path(args.folder))
        check_files(args, "texts", "questions", "statements", "classes")
        return f"running {args.config} on {args.folder}"
    if Path(args.checkpoint).is_dir() and Path(args.folder).suffix in WEIGHTS:
        raise InputError(
            f"checkpoint {args.checkpoint} is a folder, and folder {args.folder} a file of "
            "weights; expected the config, the checkpoint, then the folder"
        )
    check_model(args.config, args.cfg_options, args.checkpoint)
    check_exists(Path(args.folder))
    check_files(args, "texts", "questions", "statements", "classes")
    return f"running {args.checkpoint} on {args.folder}"


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options
    from mmbeit3.config.options import apply_options
    from mmbeit3.engine.distributed import init_distributed
    from mmbeit3.inference.folder import infer_folder, print_summary
    from mmbeit3.inference.loading import saved_run
    from mmbeit3.utils.collective import run_on_all_ranks
    from mmbeit3.utils.text_list import read_texts

    texts, classes = (
        None if path is None else read_texts(path, option)
        for path, option in ((args.texts, "texts"), (args.classes, "classes"))
    )
    init_distributed(args.launcher, backend="gloo")  # only words are exchanged
    opened: AbstractContextManager[tuple[Any, Any]]
    options = parse_options(args.cfg_options)
    if args.config == args.checkpoint:
        opened = saved_run(args.checkpoint)
    else:
        cfg = run_on_all_ranks(lambda: load_config(args.config, options))
        opened = nullcontext((args.checkpoint, cfg))
    with opened as (checkpoint, cfg):
        if args.config == args.checkpoint:
            apply_options(cfg, options)
        summary = infer_folder(
            cfg,
            checkpoint,
            args.folder,
            args.out_dir,
            score_thr=args.score_thr,
            hide_duplicates=args.hide_duplicates,
            formats=args.formats,
            texts=texts,
            top=args.top,
            templates=args.templates,
            questions=args.questions,
            show_attention=args.show_attention,
            statements=args.statements,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            device=args.device,
            dtype=args.dtype,
            compiles=args.compile,
            force=args.force,
            overlays=not args.no_overlays,
            classes=classes,
            tta=args.tta,
            tile=args.tile,
            overlap=args.overlap,
        )
    if summary is None:  # the first process has it
        return 0
    print_summary(summary, args.out_dir)
    if summary["interrupted"] and not summary["error"]:
        return INTERRUPT_STATUS
    return 1 if summary["failed"] or summary["error"] else 0


def _positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _score(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a score from 0 to 1, found {text!r}")
    return value
