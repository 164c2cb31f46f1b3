from __future__ import annotations

import errno
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmbeit3.utils.whole_files import WriteError, write_whole


def test_an_error_of_the_disk_comes_whole_from_another_process() -> None:
    error = WriteError("a/b", OSError(errno.ENOSPC, "No space left on device"))
    found = pickle.loads(pickle.dumps(error))
    assert str(found) == str(error) and found.path == Path("a/b") and found.is_of_disk


def test_chunks_that_fail_leave_the_older_file(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise ValueError("damaged")

    path = tmp_path / "folder" / "file"
    write_whole(path, [b"o", b"ld"])
    with pytest.raises(ValueError, match="damaged"):
        write_whole(path, chunks())
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
