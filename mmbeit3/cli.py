"""The ``mmbeit3`` command. Starts fast: a subcommand imports what it needs when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from mmbeit3.version import __version__


def _doctor(_: argparse.Namespace) -> int:
    from mmbeit3.doctor.report import main as doctor_main

    return doctor_main()


def _run_script(arguments: argparse.Namespace) -> NoReturn:
    import runpy
    from importlib.util import find_spec
    from pathlib import Path

    from mmbeit3.apis import console  # and with mmbeit3, what stands in for mmcv's operators
    from mmbeit3.utils import InputError

    def run() -> None:
        package, packaged, name = arguments.script.rpartition("::")
        script = Path(name)
        if packaged:
            found = find_spec(package)
            if found is None or not found.origin:
                raise InputError(f"{arguments.script}: no package {package!r} is installed")
            script = Path(found.origin).parent / ".mim" / "tools" / name
        if not script.is_file():
            others = sorted(path.name for path in script.parent.glob("*.py"))
            raise InputError(f"{script} is no file; there are {', '.join(others) or 'no scripts'}")
        sys.argv = [str(script), *arguments.arguments]
        sys.path.insert(0, str(script.parent))  # as Python does
        runpy.run_path(str(script), run_name="__main__")

    console.run(run)


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
    script = commands.add_parser(
        "run",
        help="run a script of another toolbox with this package's operators",
        description="Run a Python script as `python SCRIPT` does, with the operators that mmcv "
        "without compiled ones lacks, so that the tools of mmdet and mmsegmentation start.",
    )
    script.add_argument(
        "script", metavar="SCRIPT", help="a file, or a tool that a package brings: mmdet::test.py"
    )
    script.add_argument(
        "arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="what the script takes"
    )
    script.set_defaults(run=_run_script)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = build_parser().parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
