"""Lists of texts that a user writes: queries, sentences, names of classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmbeit3.utils.errors import InputError
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import read_text


def read_texts(path: str | Path, argument: str) -> list[str]:
    """Read a list of texts that are there once each, in which empty lines do not count.

    Args:
        path (str | Path): As for :func:`read_entries`.
        argument (str): The option that names it, for messages.

    Returns:
        list[str]: They, without white space at their ends.

    Raises:
        InputError: As :func:`read_entries`, or one of them is there twice.
    """
    texts = [text.strip() for text in read_entries(path, argument)]
    refuse_twice(path, texts, argument)
    return list(filter(None, texts))


def read_entries(
    path: str | Path, argument: str | None = None, expected: str = "one text a line"
) -> list[str]:
    """Read the lines of a text file, or the texts of a ``.json`` file with a list of them.

    Args:
        path (str | Path): The file.
        argument (str, optional): The argument that names it, for messages. Defaults to None.
        expected (str): What is to be in it, for messages. Defaults to "one text a line".

    Returns:
        list[str]: One for each line, but those at the end that are empty. Not all are.

    Raises:
        InputError: The file is absent, unreadable, or holds no text.
    """
    try:
        content = read_text(path)
    except InputError as error:
        raise InputError(str(error), argument) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"there is no file {path}; expected {expected}{describe_similar(str(path))}", argument
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", argument) from error
    is_json = _is_json(path)
    entries = _json_texts(path, content, argument) if is_json else content.rstrip().splitlines()
    if not any(map(str.strip, entries)):
        raise InputError(f"{path} holds no text; expected {expected}", argument)
    return entries


def place(path: str | Path, index: int) -> str:
    """Say where an entry of :func:`read_entries` stands."""
    return f"{path}, {_unit(path)} {index + 1}"


def refuse_twice(path: str | Path, entries: Sequence[str], argument: str | None = None) -> None:
    """Raise an InputError for a text, not an empty one, that two entries of a file have."""
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry and first.setdefault(entry, index) != index:
            raise InputError(
                f"{path} has {entry!r} twice, in {_unit(path)} {first[entry] + 1} and "
                f"{index + 1}; expected it once",
                argument,
            )


def _is_json(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".json"


def _unit(path: str | Path) -> str:
    return "entry" if _is_json(path) else "line"


def _json_texts(path: str | Path, content: str, argument: str | None) -> list[str]:
    expected = 'expected a list of texts, ["a text", "another", ...]'
    try:
        texts = json.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(f"{path} is not valid JSON: {where}; {expected}", argument) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, many brackets
        raise InputError(f"{path} is no list: {error}; {expected}", argument) from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path} holds something else; {expected}", argument)
    return texts
