"""Unpacking tar and zip archives of images, which a stop cannot spoil."""

from __future__ import annotations

import signal
import tarfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path, PurePosixPath

from rich.progress import track

from mmbeit3.datasets.archives import (
    DAMAGED,
    check_room,
    extract,
    make_folder,
    open_archive,
    write_whole,
)
from mmbeit3.utils import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def find_archives(folder: Path) -> list[Path]:
    """The archives right in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(ARCHIVE_SUFFIXES))


def unpack_images(
    archives: Sequence[Path],
    folder: Path,
    num_workers: int | None = None,
    progress: bool = False,
) -> None:
    """Unpack the images of archives, several archives at a time.

    Each archive that is done leaves a small file ``.NAME.unpacked``; it is not read again as long
    as its size stays the same. Of one that was interrupted, images that are there are not written
    again.

    Args:
        archives: tar, tar.gz or zip files.
        folder: Where to unpack; paths inside the archives are kept.
        num_workers: Processes. Defaults to None, the number of CPU cores.
        progress: Whether to show a progress bar. Defaults to False.

    Raises:
        InputError: An archive is damaged or has a path that leads out of the folder, or the disk
            cannot be written.
    """
    todo = [archive for archive in archives if not _is_unpacked(archive, folder)]
    if not todo:
        return
    make_folder(folder)
    for path in folder.rglob(".*.partial"):  # of a process that was killed while it wrote
        path.unlink()
    # Images take up in archives what they take up outside; some of these may be there.
    have = sum(path.stat().st_size for path in folder.rglob("*") if _is_image(path.name))
    check_room(folder, sum(archive.stat().st_size for archive in archives) - have)
    with ProcessPoolExecutor(num_workers, initializer=ignore_interrupts) as pool:
        try:
            done = [pool.submit(_unpack, archive, folder) for archive in todo]
            title = f"unpacking archives of {folder.name}"
            for future in track(as_completed(done), title, len(done), disable=not progress):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches all processes, to the first one, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _note(archive: Path, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacked"


def _is_unpacked(archive: Path, folder: Path) -> bool:
    note = _note(archive, folder)
    return note.is_file() and note.read_text(encoding="utf-8") == str(archive.stat().st_size)


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        _unpack_zip(archive, folder)
    else:
        _unpack_tar(archive, folder)
    write_whole(_note(archive, folder), [str(archive.stat().st_size).encode()])


def _unpack_zip(archive: Path, folder: Path) -> None:
    with open_archive(archive) as opened:
        for entry in opened.infolist():
            if _is_image(entry.filename):
                extract(opened, entry, _target(entry.filename, folder, archive))


def _unpack_tar(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:" if archive.suffix == ".tar" else "r:gz") as opened:
            for entry in opened:
                if entry.isfile() and _is_image(entry.name):
                    _extract_tar(opened, entry, _target(entry.name, folder, archive))
    except InputError:  # a ValueError, as those of damaged files
        raise
    except (tarfile.TarError, *DAMAGED) as error:
        raise InputError(
            f"{archive} ({archive.stat().st_size:,} bytes) is damaged: {error}. Was the download "
            "cut short? Download it again"
        ) from error
    except OSError as error:  # gzip's errors as well as those of the disk
        raise InputError(
            f"{archive} cannot be unpacked to {folder}: {error.strerror or error}"
        ) from error


def _extract_tar(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    if path.is_file() and path.stat().st_size == entry.size:
        return
    make_folder(path.parent)
    source = archive.extractfile(entry)
    write_whole(path, iter(lambda: source.read(1 << 20), b""))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def _target(name: str, folder: Path, archive: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{archive} has the path {name}, which leads out of the folder: not used")
    return folder / path
