"""Run a script of another toolbox: ``mmbeit3 run SCRIPT ARGS``."""

from __future__ import annotations

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from mmbeit3.utils import InputError

HELP = "run a script of another toolbox with this package's operators"
DESCRIPTION = (
    "Run a Python script as `python SCRIPT` does, with the operators that mmcv without compiled "
    "ones lacks, so that the tools of mmdet and mmsegmentation start."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "script", metavar="SCRIPT", help="a file, or a tool that a package brings: mmdet::test.py"
    )
    parser.add_argument(
        "arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="what the script takes"
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    package, packaged, name = args.script.rpartition("::")
    script = Path(name)
    if packaged:
        found = find_spec(package)
        if found is None or not found.origin:
            raise InputError(f"{args.script}: no package {package!r} is installed")
        script = Path(found.origin).parent / ".mim" / "tools" / name
    if not script.is_file():
        others = sorted(path.name for path in script.parent.glob("*.py"))
        raise InputError(f"{script} is no file; there are {', '.join(others) or 'no scripts'}")
    sys.argv = [str(script), *args.arguments]
    sys.path.insert(0, str(script.parent))  # as Python does
    runpy.run_path(str(script), run_name="__main__")
