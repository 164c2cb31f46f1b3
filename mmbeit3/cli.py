"""The ``mmbeit3`` command. Starts fast: a subcommand imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from mmbeit3.commands import console
from mmbeit3.commands.beginning import WEIGHTS, is_first_here, say
from mmbeit3.utils import InputError
from mmbeit3.version import __version__

# In the order of --help. Of each there is a module of that name in mmbeit3/commands.
COMMANDS = (
    "new-config",
    "train",
    "pretrain",
    "test",
    "infer",
    "serve",
    "check-data",
    "configs",
    "info",
    "plan-memory",
    "plot-lr",
    "curves",
    "convert",
    "convert-labels",
    "publish",
    "export",
    "eval-coco",
    "eval-captions",
    "report",
    "prepare-ade20k",
    "prepare-coco-stuff",
    "prepare-objects365",
    "prepare-codes",
    "make-shapes",
    "run",
    "doctor",
)


def build_parser() -> console.Parser:
    """The parser; each subcommand sets ``run`` and, if it has one, ``start``.

    Both are functions of the parsed arguments.
    """
    parser = console.Parser(
        prog="mmbeit3",
        description="BEiT-3 for objects, masks, classes, captions and questions about images.",
        epilog="mmbeit3 COMMAND --help explains a command. On several GPUs: torchrun "
        "--nproc_per_node 8 -m mmbeit3 COMMAND ... --launcher pytorch",
    )
    parser.add_argument("--version", action="version", version=f"mmbeit3 {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = _module(name)
        subparser = commands.add_parser(name, help=command.HELP, **_texts(command))
        command.add_arguments(subparser)
        start = getattr(command, "start", None)
        subparser.set_defaults(run=command.run, start=start, parser=subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        found = [word for word in argv or sys.argv if word.endswith(WEIGHTS)]
        hint = f"; {len(found)} files of weights are given: a pattern such as best_*.pth stands "
        hint += "for all that it fits, so name one"
        text = f"unrecognized arguments: {' '.join(unknown)}{hint * (len(found) > 1)}"
        arguments.parser.error(text)
    return console.status_of(lambda: _run(arguments)) or 0


def run_script(name: str) -> NoReturn:
    """Run one command as a script of its own, and leave the process with its exit status.

    Args:
        name: The command; its arguments are those of the process.
    """
    command = _module(name)
    parser = console.Parser(**_texts(command))
    command.add_arguments(parser)
    parser.set_defaults(run=command.run, start=getattr(command, "start", None))
    arguments = parser.parse_args()
    console.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int | None:
    """Run a command; what can be said before PyTorch is imported, which takes seconds, is said."""
    try:
        beginning = arguments.start(arguments) if arguments.start is not None else None
    except InputError:
        if is_first_here():  # files may be absent on one machine alone
            raise
        return 0  # that one says it
    if beginning:
        say(beginning)
    return arguments.run(arguments)


def _module(name: str) -> ModuleType:
    return import_module(f"mmbeit3.commands.{name.replace('-', '_')}")


def _texts(command: ModuleType) -> dict[str, Any]:
    return {"description": command.DESCRIPTION, "epilog": getattr(command, "EPILOG", None)}


if __name__ == "__main__":
    sys.exit(main())
