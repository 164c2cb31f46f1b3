"""Results that are written beside those of an earlier run, and put into their places at the end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmbeit3.utils.folder_lock import folder_locked
from mmbeit3.utils.whole_files import WriteError, whole_file, writing

#: The folder of new results, below that of the old ones, while they are made.
NEW = ".mmbeit3-new"


class Staging:
    """A folder for the files of a run that its end puts in their places.

    Args:
        out_dir (Path): Where they belong; it exists.
    """

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self.folder = out_dir / NEW

    def make(self) -> None:
        """Make the folder, anew: what is in it is of a run that was killed.

        Raises:
            WriteError: It cannot be made.
        """
        with writing(self.folder):
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir()

    def remove(self) -> None:
        """Remove the folder with all that was not put elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self, name: str) -> None:
        """Raise a WriteError if a file cannot have its place, such as that of a folder.

        Args:
            name (str): Its path below the folder.
        """
        place = self.out_dir / name
        try:
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            there = next(path for path in place.parents if path.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:  # of a name that is too long, too
            raise WriteError(place, error) from error

    def put(self, names: Iterable[str]) -> None:
        """Put files in their places, in this order; Ctrl-C waits for the end.

        Args:
            names (Iterable): Their paths below the folder.

        Raises:
            WriteError: One cannot have its place; those before it have theirs.
        """
        with _uninterrupted():
            for name in names:
                place = self.out_dir / name
                with writing(place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _move(self.folder / name, place)

    def aside(self) -> Path:
        """Name a folder for :meth:`put_aside`."""
        stem = time.strftime("unfinished_%Y%m%d_%H%M%S")
        number, place = 1, self.out_dir / stem
        while place.exists():
            number, place = number + 1, self.out_dir / f"{stem}_{number + 1}"
        return place

    def put_aside(self, place: Path) -> None:
        """Leave all files in a new folder beside the old ones."""
        with writing(place):
            self.folder.rename(place)

    def placed(self, error: WriteError) -> WriteError:
        """Name the place that a file would have had, in an error that names the file."""
        if error.path.is_relative_to(self.folder):
            return WriteError(self.out_dir / error.path.relative_to(self.folder), error.error)
        return error


@contextmanager
def staged(out_dir: Path, what: str, option: str) -> Iterator[Path]:
    """Give a folder whose files are put below ``out_dir`` if the block ends well.

    Args:
        out_dir (Path): The folder; made if absent, and locked for the time.
        what (str): The kind of run, such as 'a test'.
        option (str): The option that names the folder.

    Raises:
        InputError: A file cannot be written, or another run uses the folder.
    """
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    staging = Staging(out_dir)
    with folder_locked(out_dir, what, option):
        staging.make()
        try:
            yield staging.folder
            files = (path for path in staging.folder.rglob("*") if path.is_file())
            staging.put(sorted(str(path.relative_to(staging.folder)) for path in files))
        except WriteError as error:
            raise staging.placed(error) from error
        finally:
            staging.remove()


@contextmanager
def staged_files(path: Path) -> Iterator[Path]:
    """Give another folder for a file, or for several that begin with its name.

    They are put into its own folder if the block ends well.

    Args:
        path (Path): The file; its folder is made if absent.

    Raises:
        WriteError: A file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir()):
            with writing(path.with_name(file.name)):
                os.replace(file, path.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(source: Path, place: Path) -> None:
    try:
        os.replace(source, place)
    except OSError as error:
        if error.errno != errno.EXDEV:  # a folder may be a link to another file system
            raise
        with whole_file(place) as partial:
            shutil.copyfile(source, partial)
        with suppress(OSError):
            source.unlink()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
