"""Archives that others made: what is in them, and unpacking that neither they nor a stop spoil."""

from __future__ import annotations

import os
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from mmbeit3.datasets.converters.worker_pool import Stopped, check_stop
from mmbeit3.utils import InputError, listed

# Images are packed already, and annotations shrink to a tenth; deflate reaches 1,032.
MAX_RATIO = 100
ALLOWANCE = 1 << 20  # bytes that a small archive may unpack to in any case
CHUNK = 1 << 20


def user_path(path: str | Path) -> Path:
    """A path that may begin with ``~``.

    Raises:
        InputError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}; give the whole path") from error


def open_archive(path: str | Path) -> zipfile.ZipFile:
    """Open a zip file and read its list of contents.

    Raises:
        InputError: There is no such file, it is no complete zip file, or it would unpack to more
            than a hundred times its size.
    """
    path = user_path(path)
    if not path.is_file():
        state = "is a folder, expected the zip file" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {state}")
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises errors of many kinds on damaged files
        raise InputError(
            f"{path} ({path.stat().st_size:,} bytes) is no complete zip file: {_reason(error)}. "
            "Was the download cut short? Download it again"
        ) from error
    try:
        if not all(entry.filename for entry in archive.infolist()):
            raise damage(path, zipfile.BadZipFile("an entry has no name"))
        check_ratio(path, sum(entry.file_size for entry in archive.infolist()))
    except InputError:
        archive.close()
        raise
    return archive


def size_limit(path: Path) -> int:
    """How many bytes an archive of images or annotations may unpack to."""
    return MAX_RATIO * path.stat().st_size + ALLOWANCE


def check_ratio(path: Path, num_bytes: int) -> None:
    """Raise an InputError if an archive unpacks to far more than images or annotations do.

    Args:
        path: The archive.
        num_bytes: What it unpacks to, or what is known of it so far.
    """
    if num_bytes > size_limit(path):
        raise InputError(
            f"{path} ({path.stat().st_size:,} bytes) unpacks to {num_bytes:,} bytes or more, over "
            f"{MAX_RATIO} times its size, which no images or annotations do: it is damaged or made "
            "to fill the disk. Download it from the official address"
        )


class EntryNames:
    """Names of an archive's files: each stays in the folder, and no two are one file.

    Args:
        archive: The archive, for messages.
    """

    def __init__(self, archive: str | Path) -> None:
        self.archive = archive
        self._seen: dict[str, str] = {}

    def add(self, name: str, is_file: bool = True) -> PurePosixPath:
        """Check the name of a file that will be unpacked.

        Args:
            name: As the archive has it.
            is_file: Whether it is a regular file. Defaults to True.

        Returns:
            Its path below the folder.

        Raises:
            InputError: The name leads out of the folder, it is no file, or the archive has it
                twice, or a second time in another case.
        """
        path, windows = PurePosixPath(name), PureWindowsPath(name)
        leads_out = path.is_absolute() or windows.drive or windows.root
        if leads_out or ".." in path.parts + windows.parts:
            raise InputError(
                f"{self.archive} has the path {name}, which leads out of the folder: not used. "
                "Download it from the official address"
            )
        if not is_file:
            raise InputError(
                f"{self.archive} has {name} as a link or a device, expected files: pack the files "
                "themselves"
            )
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in self._seen:
            first = self._seen[key]
            twice = "twice" if first == name else f"and {first}, which are one file on some disks"
            raise InputError(f"{self.archive} has {name} {twice}: pack it anew with one of them")
        self._seen[key] = name
        return path


def is_regular(entry: zipfile.ZipInfo) -> bool:
    """Whether a zip's entry is a file, neither a folder nor a link or device of Unix."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return not entry.is_dir() and kind in (0, stat.S_IFREG)


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
    try:
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"{folder} cannot be used: {error.strerror}") from error
    if free < num_bytes:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB free, {num_bytes / 1e9:.1f} GB are needed: make "
            "room or choose another folder"
        )


def rename_folder(path: Path, target: Path) -> None:
    """Give a folder its final name.

    Raises:
        InputError: It cannot be renamed.
    """
    try:
        path.rename(target)
    except OSError as error:
        raise InputError(f"{path} cannot be renamed to {target}: {error.strerror}") from error


def remove_partial(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote below a folder."""
    for path in folder.rglob(".*.partial"):
        if path.is_file():
            with suppress(OSError):
                path.unlink()


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a zip's entry, its checksum and length compared.

    Raises:
        InputError: The archive is damaged there.
    """
    length = 0
    try:
        with archive.open(entry) as source:
            while content := source.read(CHUNK):
                check_stop()
                length += len(content)
                yield content
        if length != entry.file_size:
            raise zipfile.BadZipFile(f"it has {length:,} bytes, {entry.file_size:,} were announced")
    except Stopped:
        raise
    except Exception as error:  # zipfile and its decoders raise errors of many kinds
        raise damage(str(archive.filename), error, entry.filename) from error


def damage(archive: str | Path, error: Exception, entry: str = "") -> InputError:
    """What to raise where an archive cannot be read.

    Args:
        archive: The archive.
        error: Why.
        entry: Where. Defaults to '', anywhere.
    """
    size = os.stat(archive).st_size
    place = f" at {entry}" if entry else ""
    return InputError(
        f"{archive} ({size:,} bytes) is damaged{place}: {_reason(error)}. Was the download cut "
        "short? Download it again"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
