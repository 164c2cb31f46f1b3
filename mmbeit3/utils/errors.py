"""The error that tells a user what to change, and what its messages are made of."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import zip_longest


class InputError(ValueError):
    """Something the user gave cannot work: a file, a config key, an argument.

    The message says what was found, what was expected, and what to do. The tools print it
    without a traceback and exit with status 2.

    Args:
        message (str): The message.
        argument (str, optional): The argument of a function that it is about, which then stands in
            front; commands print their option of that name. Defaults to None.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message if argument is None else f"{argument}: {message}")
        self.argument = argument


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Join the first names with commas, and say how many more there are."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:limit])
    return f"{shown}, and {len(texts) - limit} more" if len(texts) > limit else shown


def compare_classes(
    what: str,
    found: Sequence[str],
    source: str,
    expected: Sequence[str],
    word: str = "class",
) -> str | None:
    """Say how two lists of classes differ, in order or otherwise; None if they do not.

    Args:
        what: What has the one.
        found: It.
        source: What has the other.
        expected: It.
        word: What one of them is called. Defaults to 'class'.
    """
    if tuple(found) == tuple(expected):
        return None
    pairs = zip_longest(map(repr, found), map(repr, expected), fillvalue="none")
    number, (here, there) = next(pair for pair in enumerate(pairs) if len(set(pair[1])) > 1)
    return (
        f"{what} has {len(found)} {plural(word)}, {source} {len(expected)}; the first difference "
        f"is {word} {number}, {here} and {there}"
    )


def plural(word: str) -> str:
    """The plural of a noun: classes, answers."""
    return f"{word}es" if word.endswith("s") else f"{word}s"


def warn(text: str) -> None:
    """Write a warning into the log of the run."""
    from mmengine.logging import print_log  # takes a second, and commands must say --help at once

    print_log(text, "current", logging.WARNING)
