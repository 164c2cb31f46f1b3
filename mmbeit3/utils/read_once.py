"""Files that are read once while a run starts, by whoever asks for them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

Content = TypeVar("Content")

_current: weakref.ref[FilesReadOnce] | None = None


class FilesReadOnce:
    """What files hold, until :meth:`forget` or the end of this object; the last one made counts.

    Data sets, checks and metrics of one run read the same annotation files. None of them may change
    what they get.
    """

    def __init__(self) -> None:
        global _current
        self._contents: dict[Hashable, Any] = {}
        _current = weakref.ref(self)

    def get(self, key: Hashable, read: Callable[[], Content]) -> Content:
        """Give what was read under a key, or read it."""
        if key not in self._contents:
            self._contents[key] = read()
        return self._contents[key]

    def forget(self) -> None:
        """Free the contents, and keep no more."""
        global _current
        self._contents.clear()
        if _current is not None and _current() is self:
            _current = None


def read_once(kind: Hashable, path: str | Path, read: Callable[[], Content]) -> Content:
    """Read a file, or give what was read of it while the present run starts.

    Args:
        kind: What is read of it.
        path: The file; one that has changed is read again.
        read: Reads it.
    """
    files = _current() if _current is not None else None
    if files is None:
        return read()
    try:
        state = os.stat(path)
    except OSError:
        return read()
    key = (kind, os.path.realpath(path), state.st_size, state.st_mtime_ns)
    return files.get(key, read)
