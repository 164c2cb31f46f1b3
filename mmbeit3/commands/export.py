"""A trained model for other programs: ``mmbeit3 export CONFIG CKPT --to onnx --out FILE``."""

from __future__ import annotations

import argparse

from mmbeit3.commands.beginning import check_files, check_model
from mmbeit3.commands.console import add_cfg_options

HELP = "write a model as ONNX, TorchScript or OpenVINO"
DESCRIPTION = (
    "Write a detector, a segmentor or a dual encoder, or tower and pyramid alone, for programs "
    "without this project, for images of any size. The file is run on noise of several sizes, and "
    "on --image, and is kept only if it computes what PyTorch does. It holds classes, "
    "normalization, preparation and config, so that `mmbeit3 infer FILE photos --out-dir DIR` "
    "needs nothing else."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("config", help="config file of the model, or a name of `mmbeit3 configs`")
    parser.add_argument("checkpoint", help="its weights (.pth or .safetensors)")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="NAME.onnx, .torchscript, .xml"
    )
    parser.add_argument(
        "--to",
        choices=("onnx", "torchscript", "openvino"),
        default="onnx",
        help="the format (default: onnx)",
    )
    parser.add_argument(
        "--part",
        choices=("model", "backbone"),
        default="model",
        help="all of it, or tower and pyramid (default: model)",
    )
    parser.add_argument(
        "--opset", type=int, default=18, help="version of ONNX's operators, 16 to 20 (default: 18)"
    )
    parser.add_argument("--image", help="a photograph to compare by, beside noise")
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    check_model(args.config, args.cfg_options, args.checkpoint)
    check_files(args, "image")
    return f"exporting {args.checkpoint} to {args.to}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.exporting import export_model
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options
    from mmbeit3.utils.terminal import ignore_library_warnings

    ignore_library_warnings()
    cfg = load_config(args.config, parse_options(args.cfg_options))
    for line in export_model(
        cfg, args.checkpoint, args.out, args.to, args.part, args.opset, args.image
    ):
        print(line)
