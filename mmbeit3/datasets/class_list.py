"""The class list of a user's label maps: one file that says which value means what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mmbeit3.datasets.palette import make_palette
from mmbeit3.utils import InputError
from mmbeit3.utils.text_list import place, read_entries, refuse_twice

MAX_CLASSES = 255  # label maps have 8 bits, and 255 is the value of pixels to ignore
COLOR = re.compile(r"(?P<name>.*\S)\s+#(?P<color>[0-9a-fA-F]{6})")
LIKE_A_COLOR = re.compile(r"(^|\s)#\S*$")
EXPECTED = "one class a line, that of label 0 first: check data_root and classes_file"


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
    entries = read_entries(path, expected=EXPECTED)
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
