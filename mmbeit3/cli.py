"""The ``mmbeit3`` command. Starts fast: a subcommand imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmbeit3.version import __version__


def _doctor(_: argparse.Namespace) -> int:
    from mmbeit3.doctor.report import main as doctor_main

    return doctor_main()


def build_parser() -> argparse.ArgumentParser:
    """The parser; each subcommand sets ``run``, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="mmbeit3", description="BEiT-3 for object detection and segmentation."
    )
    parser.add_argument("--version", action="version", version=f"mmbeit3 {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="check this environment: versions, operators, devices, known issues",
        description="Print versions, the operators in use and the devices; name every known issue "
        "and its fix. Exit status: 0 fine (warnings allowed), 1 something must be fixed.",
    )
    doctor.set_defaults(run=_doctor)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = build_parser().parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
