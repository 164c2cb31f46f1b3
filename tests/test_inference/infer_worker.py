"""One of two processes that run ``mmbeit3 infer`` again and again; started by torchrun.

Arguments: a JSON list of command lines, and a folder for the exit statuses of each process. A
command line has ``arguments`` for both, ``second`` for the second process alone, and ``kills``:
whether that one is killed after two images.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

from mmbeit3.cli import main as command_line
from mmbeit3.inference import rank_parts as shares

HERE = Path(__file__).resolve().parent


def load(path: Path) -> ModuleType:
    """Import a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def be_killed(after: int) -> None:
    """Have this process killed once its journal has so many lines."""
    add, count = shares.Journal.add, 0

    def counting(journal: shares.Journal, outcome: object) -> None:
        nonlocal count
        add(journal, outcome)
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)

    shares.Journal.add = counting


def main() -> None:
    """Run all command lines."""
    commands, rank = json.loads(Path(sys.argv[1]).read_text()), int(os.environ["RANK"])
    statuses = Path(sys.argv[2]) / f"{rank}.txt"
    load(HERE.parent / "color_models.py")  # registers the models
    shares.GRACE = 1.0
    for command in commands:
        if command["kills"] and rank == 1:
            be_killed(after=2)
        further = command["second"] if rank == 1 else []
        line = ["infer", *command["arguments"], "--launcher", "pytorch", *further]
        try:
            status = command_line(line)
        except SystemExit as left:  # the other process says why
            status = left.code
        with statuses.open("a") as file:
            print(status, file=file)


if __name__ == "__main__":
    main()
