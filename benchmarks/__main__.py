"""Measure this project next to others: ``python -m benchmarks tower soft-nms``."""

from __future__ import annotations

import argparse

from benchmarks.cases import CASES
from mmbeit3.commands.console import run


def build_parser() -> argparse.ArgumentParser:
    """The parser; imports that take seconds come after it."""
    listing = "\n".join(f"  {name:<18}{words}" for name, (_, words) in CASES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time pieces of work in several ways, side by side and in turn, and measure "
        "the memory of each.\nPrints tables in Markdown, and writes them and benchmark.json.",
        epilog=f"cases:\n{listing}\n\nExit status: 0 all targets were met, 1 "
        "a target was missed, 2 wrong arguments.",
    )
    parser.add_argument(
        "cases", nargs="+", choices=(*CASES, "all"), metavar="CASE", help="see below"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ... (default: cpu)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (default: PyTorch's)")
    parser.add_argument("--arch", default="base", help="size of the tower (default: base)")
    parser.add_argument("--size", type=int, default=1024, help="side of images (default: 1024)")
    parser.add_argument("--coco", default="data/coco", help="COCO data (default: data/coco)")
    parser.add_argument(
        "--ade20k",
        default="data/ade/ADEChallengeData2016",
        help="ADE20K data (default: data/ade/ADEChallengeData2016)",
    )
    parser.add_argument(
        "--captions",
        help="captions in COCO's format (default: annotations/captions_val2017.json of --coco)",
    )
    parser.add_argument(
        "--tokenizer", default="beit3.spm", help="SentencePiece model (default: beit3.spm)"
    )
    parser.add_argument(
        "--num-images", type=int, default=4, help="images for whole models (default: 4)"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="write down what fails, and go on with the rest"
    )
    parser.add_argument("--plot", action="store_true", help="draw the cases that have curves")
    parser.add_argument(
        "--out-dir", default="work_dirs/benchmark", help="default: work_dirs/benchmark"
    )
    return parser


def main() -> int:
    """Do what the command line asks for; returns 1 if something demanded was not reached."""
    args = build_parser().parse_args()
    import sys
    from pathlib import Path

    import torch

    from benchmarks.command import all_met, benchmark
    from benchmarks.options import Options

    if args.threads:
        torch.set_num_threads(args.threads)
    options = Options(
        device=args.device,
        arch=args.arch,
        size=args.size,
        coco=Path(args.coco),
        ade20k=Path(args.ade20k),
        captions=Path(args.captions or f"{args.coco}/annotations/captions_val2017.json"),
        tokenizer=Path(args.tokenizer),
        num_images=args.num_images,
    )
    names = list(CASES) if "all" in args.cases else list(dict.fromkeys(args.cases))
    results = benchmark(
        names, options, args.rounds, args.out_dir, args.plot, sys.argv[1:], args.keep_going
    )
    return 0 if all_met(results) else 1


if __name__ == "__main__":
    run(main)
