"""Show a model as a page in the browser: ``mmbeit3 serve CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmbeit3.commands.beginning import check_model, check_weights
from mmbeit3.commands.console import add_acceleration, add_cfg_options, add_tta
from mmbeit3.utils import InputError

HELP = "try a model in the browser"
DESCRIPTION = (
    "Serve a page in the browser: drop a picture, move the score and choose classes, download "
    "JSON; search a folder by words; ask about a picture, or have it captioned. Needs the extra "
    "mmbeit3[serve]."
)
EPILOG = (
    "Without --host this machine alone is served. The page has no password: with --host 0.0.0.0 "
    "everybody who reaches this machine may use it. It loads nothing from other hosts, and what "
    "visitors drop stays in memory until they leave. MMBEIT3_MAX_PIXELS sets how large a picture "
    "may be (default here: 50,000,000 pixels)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "config",
        help="config file or name; or alone a checkpoint that holds its config, hf://OWNER/NAME "
        "or a file of `mmbeit3 export`",
    )
    parser.add_argument("checkpoint", nargs="?", help="its weights (.pth or .safetensors)")
    parser.add_argument("--images", type=Path, help="folder to search (retrieval only)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve (default: 127.0.0.1, this machine)"
    )
    parser.add_argument("--port", type=int, default=8501, help="its port (default: 8501)")
    parser.add_argument(
        "--max-upload", type=_positive, default=20, help="megabytes of a file (default: 20)"
    )
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=60,
        help="seconds that an answer may take, the wait for other visitors included (default: 60)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda:0, ... (default: auto, a GPU if any)"
    )
    add_tta(parser)
    add_acceleration(parser)
    add_cfg_options(parser)


def start(args: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    from mmbeit3.utils.image_folders import check_exists

    if args.checkpoint is not None:
        check_model(args.config, args.cfg_options, args.checkpoint)
    elif args.cfg_options:
        raise InputError("values are given, but no config apart from the weights", "cfg_options")
    else:
        check_weights(args.config)
    if args.images is not None:
        check_exists(args.images)
    return f"loading {args.checkpoint or args.config}"


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mmbeit3.apis.serving import serve
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.option_values import parse_options

    config = args.config
    if args.checkpoint is not None:
        config = load_config(config, parse_options(args.cfg_options))
    server = serve(
        config,
        args.checkpoint,
        images=args.images,
        timeout=args.timeout,
        host=args.host,
        port=args.port,
        max_upload=args.max_upload,
        device=args.device,
        dtype=args.dtype,
        compile=args.compile,
        force=args.force,
        tta=args.tta,
    )
    print(f"open {server.address} in a browser; Ctrl-C ends it", flush=True)
    server.run()


def _positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)
