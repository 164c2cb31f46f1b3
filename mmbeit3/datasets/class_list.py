"""The class list of a user's label maps: one file that says which value means what."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmbeit3.datasets.palette import make_palette
from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import read_text

MAX_CLASSES = 255  # label maps have 8 bits, and 255 is the value of pixels to ignore
COLOR = re.compile(r"(?P<name>.*\S)\s+#(?P<color>[0-9a-fA-F]{6})")
LIKE_A_COLOR = re.compile(r"(^|\s)#\S*$")


class ClassList(NamedTuple):
    """Names and RGB colors, in the order of the label values."""

    names: tuple[str, ...]
    palette: list[tuple[int, int, int]]


def read_class_list(path: str | Path) -> ClassList:
    """Read a class list; a class without a color gets one of :func:`make_palette`.

    Args:
        path: A text file with one class a line, or a ``.json`` file with a list of texts. The
            first class has index 0. A color may follow the name: ``traffic light #ffa000``.

    Raises:
        InputError: The file is absent or unreadable, or an entry cannot be used.
    """
    path = Path(path)
    entries = read_entries(path)
    if len(entries) > MAX_CLASSES:
        raise InputError(
            f"{path} names {len(entries)} classes; 8-bit label maps can tell {MAX_CLASSES} apart "
            "(255 stands for pixels to ignore)"
        )
    parsed = [_parse(text, place(path, number)) for number, text in enumerate(entries)]
    names = tuple(name for name, _ in parsed)
    refuse_twice(path, names)
    default = make_palette(len(names))
    palette = [color or default[index] for index, (_, color) in enumerate(parsed)]
    return ClassList(names, palette)


def read_entries(path: Path) -> list[str]:
    """Read the lines of a text file, or the texts of a ``.json`` file; those at the end not empty.

    Args:
        path: The file.

    Raises:
        InputError: The file is absent or unreadable, or there is none.
    """
    check_regular(path)
    if not path.is_file():
        raise InputError(
            f"there is no file {path}; check data_root and classes_file, or write the names of the "
            "classes into it, one a line, that of label value 0 first"
            f"{describe_similar(str(path))}"
        )
    is_json = path.suffix.lower() == ".json"
    entries = _json_entries(path) if is_json else _text(path).rstrip().splitlines()
    if not entries:
        raise InputError(f"{path} names no class; expected one class a line")
    return entries


def place(path: Path, index: int) -> str:
    """Say where an entry of :func:`read_entries` stands."""
    return f"{path}, {_unit(path)} {index + 1}"


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise an InputError for a name that two entries of a file have."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            raise InputError(
                f"{path} names {name!r} twice: {_unit(path)} {first[name] + 1} and {index + 1}"
            )


def _unit(path: Path) -> str:
    return "entry" if path.suffix.lower() == ".json" else "line"


def _json_entries(path: Path) -> list[str]:
    try:
        entries = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}; "
            'expected ["road", "sky", ...]'
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, many brackets
        raise InputError(f'{path} is no list: {error}; expected ["road", "sky", ...]') from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(f'{path} is not a JSON list of class names; expected ["road", "sky", ...]')
    return entries


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _parse(entry: str, where: str) -> tuple[str, tuple[int, int, int] | None]:
    entry = entry.strip()
    if not entry:
        raise InputError(
            f"{where} is empty; its number is the label value, so none may be left out"
        )
    if match := COLOR.fullmatch(entry):
        red, green, blue = bytes.fromhex(match["color"])
        return match["name"], (red, green, blue)
    if LIKE_A_COLOR.search(entry):
        raise InputError(f"{where} is {entry!r}; expected a name, or a name and #rrggbb")
    return entry, None
