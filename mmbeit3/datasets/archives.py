"""Official zip archives: what is in them, and unpacking that a stop cannot spoil."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmbeit3.utils import InputError, listed

# What zipfile raises on a damaged file: flipped bits also look like a foreign compression,
# encryption (both RuntimeError) or a name in no encoding (ValueError).
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


def open_archive(path: str | Path) -> zipfile.ZipFile:
    """Open a zip file and read its list of contents.

    Raises:
        InputError: There is no such file, or it is no complete zip file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        state = "is a folder, expected the zip file" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {state}")
    try:
        return zipfile.ZipFile(path)
    except DAMAGED as error:
        raise InputError(
            f"{path} ({path.stat().st_size:,} bytes) is no complete zip file: {error}. Was the "
            "download cut short? Download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def describe(archive: zipfile.ZipFile) -> str:
    """Say what an unexpected archive holds: the number of its files and its first folders."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    folders = sorted({name.rpartition("/")[0] or "." for name in names})
    return f"{len(names):,} files in {listed(folders, limit=5) or 'no folder'}"


def missing_text(missing: Sequence[str], expected: int) -> str:
    """Say how many of the expected names are missing, and the first of them."""
    return f"{len(missing):,} of {expected:,} files are missing, such as {listed(missing, limit=3)}"


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise an InputError if a disk has less free space than is needed.

    Args:
        folder: Where the files go; it need not exist yet.
        num_bytes: What they need.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB free, {num_bytes / 1e9:.1f} GB are needed: make "
            "room or choose another folder"
        )


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {error.strerror}") from error


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file under another name and rename it at the end: it is whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Unpack one file, its checksum compared, unless it is there in full.

    Raises:
        InputError: The archive is damaged there, or the disk cannot be written.
    """
    if path.is_file() and path.stat().st_size == entry.file_size:
        return
    make_folder(path.parent)
    try:
        with archive.open(entry) as source:
            write_whole(path, iter(lambda: source.read(1 << 20), b""))
    except DAMAGED as error:
        raise InputError(
            f"{archive.filename} is damaged at {entry.filename}: {error}. Download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
