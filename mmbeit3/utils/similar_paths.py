"""Finding the file that a path probably means: another spelling of it, or another folder."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

MAX_ENTRIES = 50_000  # of all folders that are looked through for a name


def find_similar(folder: str, name: str) -> tuple[str, str] | None:
    """Find the file that a name most likely means.

    Names are compared without regard to case, Unicode normal form, percent-encoding, the direction
    of slashes and, at last, the suffix: first below the folder, with leading parts of the name left
    out one by one, then in every folder below it and below its parent.

    Args:
        folder: Where the file is looked for.
        name: Its path below the folder.

    Returns:
        The path of the file that is there, and what the name differs in; None if there is none.
    """
    parts = PurePosixPath(_slashes(name)).parts
    for start in range(len(parts)):
        found = _follow(folder, parts[start:])
        if found:
            return found, _difference(name, os.path.relpath(found, folder))
    for root in (folder, os.path.dirname(os.path.abspath(folder))):
        for found in _files_below(root):
            if _key(os.path.basename(found)) == _key(parts[-1] if parts else ""):
                return found, "the folder"
    return None


def describe_similar(path: str, folder: str | None = None) -> str:
    """Name the file that is there for one that is not, as the end of a message.

    Args:
        path: The path of the missing file.
        folder: The folder that it was looked for in, of which the path begins. Defaults to the
            path's own.

    Returns:
        ``"; did you mean ..."``, or an empty text.
    """
    folder = os.path.dirname(path) if folder is None else folder
    found = find_similar(folder, path[len(folder) :].lstrip("/"))
    return f"; did you mean {found[0]}? It differs in {found[1]}" if found else ""


def similar_files(path: Path) -> str:
    """Name the files beside ``path`` that are spelt like it, as the end of a message."""
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = sorted(entry.name for entry in path.parent.iterdir())
    similar = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    return f"; similar files there: {', '.join(similar)}" if similar else ""


def names_by_key(names: Iterable[str]) -> dict[str, str]:
    """The names by what all spellings of them have in common, for :func:`similar_name`."""
    return {_key(name): name for name in names}


def similar_name(name: str, known: dict[str, str]) -> str:
    """The name with the one that is known in its place, if there is one, for a list of names.

    Args:
        name: A path without suffix, below a folder.
        known: What :func:`names_by_key` makes of the paths that are there.
    """
    spelling = _slashes(name)
    for candidate in (spelling, os.path.splitext(spelling)[0]):
        found = known.get(_key(candidate))
        if found is not None:
            return f"{name} (did you mean {found}? It differs in {_difference(name, found)})"
    return name


def _follow(folder: str, parts: tuple[str, ...]) -> str | None:
    """Go down from a folder by names that are compared by their keys."""
    path = folder
    for depth, part in enumerate(parts):
        if part in (".", "/"):
            continue
        names = _listing(path or ".")
        found = names.get(_key(part))
        if found is None and depth == len(parts) - 1:
            stems = {os.path.splitext(key)[0]: name for key, name in reversed(names.items())}
            found = stems.get(os.path.splitext(_key(part))[0])
        if found is None:
            return None
        path = os.path.join(path, found)
    return path if path != folder and os.path.isfile(path) else None


def _listing(folder: str) -> dict[str, str]:
    try:
        return {_key(name): name for name in sorted(os.listdir(folder), reverse=True)}
    except OSError:
        return {}


def _files_below(folder: str) -> Iterator[str]:
    seen = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen += len(files) + len(folders)
        if seen > MAX_ENTRIES:
            return
        yield from (os.path.join(parent, name) for name in sorted(files))


def _slashes(name: str) -> str:
    return unquote(name).replace("\\", "/")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _difference(name: str, found: str) -> str:
    """What two spellings of a path differ in."""
    differences = []
    if "\\" in name:
        differences.append("the direction of slashes")
        name = name.replace("\\", "/")
    if unquote(name) != name and "%" not in found:
        differences.append("percent-encoding")
        name = unquote(name)
    name, found = os.path.normpath(name), os.path.normpath(found)
    if unicodedata.normalize("NFC", name) != name or unicodedata.normalize("NFC", found) != found:
        forms = [
            next((form for form in ("NFC", "NFD") if unicodedata.normalize(form, text) == text), "")
            for text in (name, found)
        ]
        if forms[0] != forms[1]:
            differences.append(f"Unicode normal form ({forms[0]} here, {forms[1]} on disk)")
        name, found = (unicodedata.normalize("NFC", text) for text in (name, found))
    if os.path.dirname(name) != os.path.dirname(found):
        same = os.path.dirname(name).casefold() == os.path.dirname(found).casefold()
        differences.append("upper and lower case of the folder" if same else "the folder")
    name, found = os.path.basename(name), os.path.basename(found)
    if os.path.splitext(name)[0].casefold() == os.path.splitext(found)[0].casefold():
        if name.casefold() != found.casefold():
            differences.append("the suffix")
        elif name != found:
            differences.append("upper and lower case")
    return " and ".join(differences) or "its spelling"
