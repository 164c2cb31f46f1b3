"""Check this environment: ``mmbeit3 doctor``."""

from __future__ import annotations

import argparse

HELP = "check this environment: versions, operators, devices, known issues"
DESCRIPTION = (
    "Print versions, the operators in use and the devices; name every known issue and its fix. "
    "Exit status: 0 fine (warnings allowed), 1 something must be fixed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command: there are none."""


def start(_: argparse.Namespace) -> str:
    """Check what needs no PyTorch, and say what begins."""
    return "looking at what is installed"


def run(_: argparse.Namespace) -> int:
    """Run the command."""
    from mmbeit3.doctor.report import main

    return main()
