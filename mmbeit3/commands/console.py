"""What commands share: options, user errors as one message, and the exit status."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mmbeit3.utils import InputError
from mmbeit3.utils.terminal import ignore_library_warnings

INPUT_ERROR_STATUS = 2
INTERRUPT_STATUS = 130  # 128 + SIGINT, as shells report it
SIMILAR = 0.6


class Parser(argparse.ArgumentParser):
    """A parser whose errors name what was meant, in two lines in place of all options."""

    def error(self, message: str) -> NoReturn:
        """Print an error and how the command is called, and leave the process with status 2."""
        if message.startswith("unrecognized arguments: "):
            found, known = message.split()[2:], list(self._option_string_actions)
            message += _meant([word.partition("=")[0] for word in found if word[0] == "-"], known)
        elif choice := re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            message += _meant([choice[1]], re.findall(r"[^\s,']+", choice[2]))
        needed = [action for action in self._actions if action.required]
        words = [self.prog, "[options]"]
        words += [
            word for action in needed for word in (*action.option_strings[:1], _value(action))
        ]
        text = f"error: {message}\nusage: {' '.join(words)}\n`{self.prog} --help` explains it\n"
        self.exit(INPUT_ERROR_STATUS, text)


def _meant(words: Sequence[str], known: Sequence[str]) -> str:
    close = [name for word in words for name in difflib.get_close_matches(word, known, 1, SIMILAR)]
    return f"; did you mean {' '.join(close)}?" if close else ""


def _value(action: argparse.Action) -> str:
    return str(action.metavar or (action.dest.upper() if action.option_strings else action.dest))


def run(command: Callable[[], int | None]) -> NoReturn:
    """Run a command and leave the process with its exit status, that of :func:`status_of`."""
    sys.exit(status_of(command))


def status_of(command: Callable[[], int | None]) -> int | None:
    """Run a command; user errors are printed as one message, noise of the libraries is not.

    Args:
        command: The command. It returns its exit status, or None for success.

    Returns:
        Its exit status; 2 after an :class:`~mmbeit3.utils.InputError`, which is printed without a
        traceback, and 130 after Ctrl-C. Any other exception keeps its traceback.
    """
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    ignore_library_warnings()
    try:
        return command()
    except InputError as error:
        # A data loader's worker hands its error on as text, its own traceback in front.
        message = str(error).rpartition("InputError: ")[2].rstrip()
        if error.argument:
            message = f"--{error.argument.replace('_', '-')}{message.removeprefix(error.argument)}"
        print(f"error: {message}", file=sys.stderr)
        return INPUT_ERROR_STATUS
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPT_STATUS


def add_acceleration(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`mmbeit3.accelerate`."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="compute matrix products in this type (default: float32); int8: those of the tower, "
        "on CPUs alone, the others in bfloat16 where the CPU has it",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="compute in bfloat16 on a CPU without instructions for it, too, which is slower",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the backbone by torch.compile, for all image sizes alike",
    )


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Add ``--tta``, the views of :data:`mmbeit3.config.TTA_PIPELINES`."""
    parser.add_argument(
        "--tta",
        nargs="?",
        const="multi-scale",
        choices=("multi-scale", "flip"),
        help="merge several views of each image, those of the config's tta_pipeline "
        "(multi-scale, also when no value is given) or tta_pipeline_flip (flip); detectors and "
        "segmentors only",
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, which :func:`mmbeit3.config.options.parse_options` reads."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help='values that replace the config\'s: a.b=1 a.c="[1,2]" a.list.0.d=x',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``, and what ``torch.distributed.launch`` passes, for several processes."""
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    # Different versions have either spelling.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
