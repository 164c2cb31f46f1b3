"""What a person reads of a log: short lines in the terminal, while the log file has everything."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from typing import Any

# Lines of mmengine for the log file alone. The last ones are for those who write the libraries.
FILE_ONLY = re.compile(
    r"\s*-{60}\s+System environment:|Config:\n|Hooks will be executed|Checkpoints will be saved to"
    r"|Distributed training is not used|Exp name: |The prefix is not set in metric class"
)
# What the libraries warn each other of; a user cannot change it.
NOISE = (
    r"(?is).*(deprecat|in an upcoming release|in a future (release|version)"
    r"|the hook for visualization will not take effect)"
)
LIBRARIES = (
    r"(torch|torchvision|mmengine|mmcv|mmdet|mmseg|timm|fairscale|tensorboard|faster_coco_eval"
    r"|pycocotools|pkg_resources|setuptools)(\.|$)"
)
LEVELS = {logging.WARNING: ("warning: ", "yellow"), logging.ERROR: ("error: ", "red")}


class LogText(str):
    """A text for the log file, of which the terminal has a short form.

    Args:
        text (str): The text.
        short (str, optional): What the terminal shows. Defaults to None, nothing.
    """

    short: str | None

    def __new__(cls, text: str, short: str | None = None) -> LogText:
        """Make the text."""
        self = super().__new__(cls, text)
        self.short = short
        return self


class Table(str):
    """Results in detail: a terminal shows them, unless they are of a validation in a training."""


class TerminalFormatter(logging.Formatter):
    """Writes time and text; of levels, only that of warnings and errors."""

    def __init__(self) -> None:
        super().__init__(datefmt="%m/%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; lines after the first begin below the text of the first."""
        from termcolor import colored  # the doctor runs where nothing is installed

        text = getattr(record.msg, "short", None) or record.getMessage().strip("\n")
        word, color = LEVELS.get(record.levelno, ("", None))
        time = f"{self.formatTime(record, self.datefmt)} "
        lines = [time + (colored(word, color) if word else "") + text.partition("\n")[0]]
        lines += [f"{' ' * len(time)}{line}".rstrip() for line in text.split("\n")[1:]]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)


class TerminalFilter(logging.Filter):
    """Keeps from a terminal what only the log file shall have.

    Attributes:
        trains (bool): Whether validations are those of a training.
    """

    trains = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a terminal shows a record."""
        if isinstance(record.msg, LogText):
            return record.msg.short is not None
        if isinstance(record.msg, Table):
            return not self.trains
        text = str(record.msg)
        noise = record.levelno == logging.WARNING and re.match(NOISE, text)
        return not (noise or FILE_ONLY.match(text))


class CurrentStdout:
    """The standard output of the moment: a progress bar puts itself in its place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


def shorten(logger: logging.Logger) -> TerminalFilter:
    """Have the terminal show the short form of a logger's records; its files keep the whole.

    Args:
        logger (logging.Logger): A logger of mmengine.

    Returns:
        TerminalFilter: What keeps records from the terminal.
    """
    for handler in logger.handlers:
        known = next((each for each in handler.filters if isinstance(each, TerminalFilter)), None)
        if known is not None:
            return known
    new = TerminalFilter()
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(TerminalFormatter())
            handler.addFilter(new)
            if handler.stream is sys.stdout:
                handler.setStream(CurrentStdout())
    return new


def shorten_default() -> None:
    """Do the same for mmengine's logger of the time before a run has its own."""
    from mmengine.logging import MMLogger  # a command must not wait for torch

    logger = MMLogger.get_current_instance()
    if logger.instance_name == "mmengine":
        shorten(logger)


def is_terminal() -> bool:
    """Whether somebody watches the output of this process, so that it can have a progress bar."""
    isatty = getattr(sys.stdout, "isatty", None)
    return bool(isatty and isatty()) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def ignore_library_warnings() -> None:
    """Ignore what libraries warn each other of, such as functions that they will take away."""
    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", NOISE, category, LIBRARIES)
