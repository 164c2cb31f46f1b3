"""A file of class names, one a line: what an image is called, and maybe the folder of its class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mmbeit3.datasets.class_list import EXPECTED
from mmbeit3.utils import InputError
from mmbeit3.utils.text_list import place, read_entries, refuse_twice

TAB = "\t"


class ClassNames(NamedTuple):
    """Names in the order of the labels, and the folder of each."""

    names: tuple[str, ...]
    folders: tuple[str, ...]


def read_class_names(path: str | Path) -> ClassNames:
    """Read a list of class names.

    Args:
        path: A text file with one class a line, or a ``.json`` file with a list of texts. The first
            class has label 0. A line is a name, or the folder of the class, a tab and the name.

    Returns:
        The names; a folder is called as its class where the file does not say.

    Raises:
        InputError: The file is absent or unreadable, a line is empty, or two are of one name or
            folder.
    """
    names, folders = [], []
    for index, entry in enumerate(read_entries(path, expected=EXPECTED)):
        folder, tab, name = entry.partition(TAB)
        folder = folder.strip()
        name = name.strip() if tab else folder
        if not (folder and name):
            raise InputError(
                f"{place(path, index)} is {entry!r}; expected a name, or a folder, a tab and a "
                "name: remove the line, or complete it"
            )
        names.append(name)
        folders.append(folder)
    refuse_twice(path, names)
    refuse_twice(path, folders)
    return ClassNames(tuple(names), tuple(folders))
