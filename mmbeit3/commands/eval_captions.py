"""Score captions again: ``mmbeit3 eval-captions REFERENCES.json RESULTS.json``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmbeit3.commands.beginning import check_exists

HELP = "score caption result files"
DESCRIPTION = (
    "Score caption results next to what people wrote, without a model: BLEU, ROUGE-L and CIDEr, "
    "and by --java the official tokenizer and METEOR."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "references",
        type=Path,
        help="captions in COCO's format, Karpathy's dataset_coco.json, or a table of image,text",
    )
    parser.add_argument(
        "results",
        type=Path,
        help="JSON list of image_id and caption, or the captions.csv of infer",
    )
    parser.add_argument(
        "--java",
        action="store_true",
        help="split words by the official tokenizer, and add METEOR (needs Java, pycocoevalcap)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="test",
        help="images of Karpathy's file (default: test)",
    )
    parser.add_argument(
        "--answered-only",
        action="store_true",
        help="leave out images without a result, in place of an error",
    )
    parser.add_argument("--out", type=Path, help="write the unrounded numbers to this JSON file")


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_exists(args.references, "reference file")
    check_exists(args.results, "results file")
    return f"evaluating {args.results}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.evaluation.captions.scores import caption_scores, format_scores
    from mmbeit3.utils.whole_files import write_whole

    scores = caption_scores(
        args.references, args.results, args.java, args.answered_only, args.split
    )
    print(format_scores(scores))
    if args.out:
        write_whole(args.out, json.dumps(scores, indent=2) + "\n")
        print(f"the numbers are in {args.out}")
