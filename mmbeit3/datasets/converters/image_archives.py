"""Unpacking tar and zip archives of images, which neither a stop nor the archive can spoil."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from mmbeit3.datasets.converters.archives import (
    EntryNames,
    check_ratio,
    check_room,
    damage,
    is_regular,
    open_archive,
    read_entry,
    remove_partial,
    size_limit,
)
from mmbeit3.datasets.converters.records import (
    Record,
    file_state,
    holds,
    load_records,
    write_records,
)
from mmbeit3.datasets.converters.worker_pool import Stopped, check_stop, run_in_processes
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.whole_files import make_folder, write_whole

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_IMAGE = 1 << 29  # bytes, of an image file or of a header of tar
BLOCK = tarfile.BLOCKSIZE
Content = tuple[Record, Iterable[bytes]]
File = tuple[str, bool, Callable[[], Content]]
"""Name in the archive, whether it is a regular file, and what reads it."""


def find_archives(folder: Path) -> list[Path]:
    """The archives right in a folder, by name.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(ARCHIVE_SUFFIXES))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error


def unpack_images(
    archives: Sequence[Path],
    folder: Path,
    num_workers: int | None = None,
    progress: bool = False,
) -> None:
    """Unpack the images of archives, several archives at a time.

    Each archive that is done leaves a file ``.NAME.unpacked`` with the size and CRC-32 of its
    images. As long as the archive is not written anew, a later run reads these images in place of
    the archive. Of an archive that was interrupted, images that are there with the content of the
    archive are not written again.

    Args:
        archives: tar, tar.gz or zip files; what is inside tells them apart.
        folder: Where to unpack; paths inside the archives are kept.
        num_workers: Processes. Defaults to None, the number of CPU cores.
        progress: Whether to show a progress bar. Defaults to False.

    Raises:
        InputError: An archive is damaged, holds no image, would fill the disk, or has a link or a
            path that leads out of the folder; two of the images are one file; or the disk cannot
            be written.
    """
    if not archives:
        return
    make_folder(folder)
    remove_partial(folder)
    # Images take up in archives what they take up outside; some of these may be there.
    have = sum(path.stat().st_size for path in folder.rglob("*") if _is_image(path.name))
    check_room(folder, sum(archive.stat().st_size for archive in archives) - have)
    title = f"unpacking archives of {folder.name}"
    names = run_in_processes(
        partial(_unpack, folder=folder), archives, title, num_workers, progress=progress
    )
    owners: dict[str, Path] = {}
    for archive, inside in zip(archives, names, strict=True):
        for name in inside:
            if owners.setdefault(name, archive) != archive:
                raise InputError(
                    f"{archive} and {owners[name]} both have {name}: which one is meant? Leave one "
                    "of the archives out"
                )


def are_unpacked(archives: Sequence[Path], folder: Path) -> bool:
    """Whether no archive was written since its images were unpacked, by its size and times."""
    return all(load_records(_note(path, folder), file_state(path)) for path in archives)


@contextmanager
def open_tar(path: Path, file: BinaryIO) -> Iterator[Iterator[tuple[tarfile.TarInfo, BinaryIO]]]:
    """Go through the files of a tar or tar.gz archive of images or annotations.

    Unlike tarfile alone, a damaged header in its middle does not end it, nor does its cut end.

    Args:
        path: The archive, for messages and its size.
        file: The same, open.

    Yields:
        Entries but for folders, and the content of each.

    Raises:
        InputError: The archive is damaged, or unpacks to more than a hundred times its size.
    """
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    reader = _Reader(gzip.GzipFile(fileobj=file) if is_packed else file, path)
    try:
        archive = tarfile.open(fileobj=reader, mode="r:")  # noqa: SIM115  closed below
    except (InputError, Stopped):
        raise
    except Exception as error:  # tarfile raises errors of many kinds on damaged files
        raise damage(path, error) from error
    with archive:
        yield _entries(archive, reader, path)


def _entries(
    archive: tarfile.TarFile, reader: _Reader, path: Path
) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    num_bytes = 0
    while True:
        check_stop()
        try:
            entry = archive.next()
            vars(archive)["members"] = []  # it would keep them all
            content = archive.extractfile(entry) if entry and entry.isfile() else None
        except (InputError, Stopped):
            raise
        except Exception as error:
            raise damage(path, error) from error
        if entry is None:
            break
        num_bytes += max(entry.size, 0)
        check_ratio(path, num_bytes)
        if not entry.isdir():
            yield entry, cast(BinaryIO, content or io.BytesIO())
    # What tarfile takes for the end may be damage: only zeros may follow. Reading them also makes
    # gzip compare its checksum.
    reader.seek(archive.offset)
    rest = reader.read(BLOCK)
    is_whole = len(rest) == BLOCK
    while rest and is_whole:
        is_whole = not any(rest)
        rest = reader.read(BLOCK)
    if not is_whole:
        raise damage(path, tarfile.ReadError(f"it breaks off at byte {archive.offset:,}"))


class _Reader(io.RawIOBase):
    """A stream for tarfile that ends at the size limit and names the archive when it is damaged."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, path: Path) -> None:
        super().__init__()
        self.file, self.path, self.limit = file, path, size_limit(path)

    def read(self, size: int = -1) -> bytes:
        """Read at most the largest size that an image has."""
        if not 0 <= size <= MAX_IMAGE:
            raise damage(self.path, ValueError(f"a header announces {size:,} bytes"))
        return self._guarded(self.file.read, size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the limit."""
        check_ratio(self.path, offset)
        return self._guarded(self.file.seek, offset, whence)

    def tell(self) -> int:
        """The position."""
        return self.file.tell()

    def _guarded(self, function: Callable[..., Any], *arguments: int) -> Any:
        check_stop()
        if self.file.tell() > self.limit:
            check_ratio(self.path, self.file.tell())
        try:
            return function(*arguments)
        except Exception as error:  # gzip and zlib raise errors of many kinds
            raise damage(self.path, error) from error


def _note(archive: Path, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacked"


def _unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack an archive unless that is done; the names of its images."""
    try:
        state = file_state(archive)
        with archive.open("rb") as file:
            is_zip = file.read(2) == b"PK"
    except OSError as error:
        raise InputError(f"{archive} cannot be read: {error.strerror}") from error
    records = load_records(_note(archive, folder), state)
    if records and all(holds(folder / name, record) for name, record in records.items()):
        return list(records)
    records, others = {}, []
    names = EntryNames(archive)
    for name, is_file, read in (_zip_files if is_zip else _tar_files)(archive):
        if not _is_image(name):
            others.append(name)
            continue
        path = names.add(name, is_file)
        record, chunks = read()
        if not holds(folder / path, record):
            make_folder((folder / path).parent)
            write_whole(folder / path, chunks)
        records[str(path)] = record
    if not records:
        raise InputError(
            f"{archive} holds no image, but {listed(others, limit=3) or 'no files'}: expected "
            f"{', '.join(EXTENSIONS)}; unpack archives that lie in it first"
        )
    write_records(_note(archive, folder), state, records)
    return list(records)


def _zip_files(path: Path) -> Iterator[File]:
    with open_archive(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield entry.filename, is_regular(entry), partial(_from_zip, archive, entry)


def _from_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Content:
    return (entry.file_size, entry.CRC), read_entry(archive, entry)


def _tar_files(path: Path) -> Iterator[File]:
    with path.open("rb") as file, open_tar(path, file) as entries:
        for entry, source in entries:
            yield entry.name, entry.isfile(), partial(_from_tar, path, source)


def _from_tar(path: Path, source: BinaryIO) -> Content:
    try:
        content = source.read()
    except (InputError, Stopped):
        raise
    except Exception as error:
        raise damage(path, error) from error
    return (len(content), zlib.crc32(content)), [content]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith("._")
