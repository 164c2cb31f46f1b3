"""Whether a file is as it was when something was made of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """What tells whether a file has changed: its size in bytes and its time in nanoseconds."""

    size: int
    time: int

    @classmethod
    def of(cls, path: str | Path) -> Stamp:
        """Look at a file; of one inside a tar file, ``shard.tar/name``, at that.

        Raises:
            OSError: It is not there.
        """
        try:
            status = os.stat(path)
        except NotADirectoryError:
            return cls.of(os.path.dirname(path))
        return cls(status.st_size, status.st_mtime_ns)
