"""Files that are written whole or not at all, and errors that name what could not be written."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from mmbeit3.utils.errors import InputError

#: Errors of the disk: the next file will meet them too. EFBIG is a limit set for the process.
OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENODEV}
MAX_NAME = 255  # bytes, on nearly all file systems


class WriteError(InputError):
    """A file cannot be written.

    Args:
        path (Path): The file.
        error (OSError): Why.
    """

    def __init__(self, path: str | Path, error: OSError) -> None:
        self.path, self.error = Path(path), error
        #: Whether the disk is to blame, and not this file.
        self.is_of_disk = error.errno in OF_DISK
        super().__init__(
            f"{path} cannot be written ({error.strerror or error}): make room there, or give a "
            "name in another folder"
        )

    def __reduce__(self) -> tuple[type[WriteError], tuple[Path, OSError]]:
        return type(self), (self.path, self.error)  # processes hand it on


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Have an OSError inside name the file that is written.

    Raises:
        WriteError: In the place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Name a file to write; at the end it takes the place of ``path``, and after an error it goes.

    Args:
        path (str | Path): The file. Its folder is created.

    Raises:
        WriteError: It cannot be written; an older one is as it was.
    """
    with partial_of(path) as partial:
        yield partial
        os.replace(partial, path)


@contextmanager
def partial_of(path: str | Path) -> Iterator[Path]:
    """Name a file beside ``path`` to write first; it is gone at the end, moved or not.

    Raises:
        WriteError: It cannot be written.
    """
    path = Path(path)
    name = f".{path.name}.{os.getpid()}.partial"
    if len(os.fsencode(name)) > MAX_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{os.getpid()}.partial"
    partial = path.with_name(name)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        except RuntimeError as error:
            # When a write fails, torch's zip writer raises its own error on closing, on top of it.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it exists.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cure = "give the name of a folder in a place that you may write to"
        raise InputError(f"the folder {path} cannot be made: {error.strerror}; {cure}") from error


def put_durably(partial: Path, path: Path) -> None:
    """Give a written file its name, when all of it is on the disk: power may fail too."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    with suppress(OSError):  # some file systems do not sync folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_all(file: FileIO, content: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take them in parts."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def write_whole(path: str | Path, content: str | bytes | Iterable[bytes]) -> None:
    """Write a file, whole or not at all.

    Args:
        path (str | Path): The file. Its folder is created.
        content (str | bytes | Iterable[bytes]): What to write. Text is written in UTF-8; what of a
            file's name is none, as a backslash and its number. Where chunks raise an error, nothing
            is written.

    Raises:
        WriteError: It cannot be written; an older one is as it was.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with whole_file(path) as partial:
        if isinstance(content, bytes):
            partial.write_bytes(content)
            return
        with partial.open("wb") as file:
            file.writelines(content)
