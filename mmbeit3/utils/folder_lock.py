"""One run for a folder of results: a lock file that says whose it is."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mmbeit3.utils.errors import InputError
from mmbeit3.utils.text_files import read_small_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".mmbeit3-lock"
MAX_COMMAND = 300  # characters of a command that a message shows

#: The folders that this process has locked: its number and thread, and the owner in words.
#: A process must not open a lock file of its own again: closing it would give the lock back.
_held: dict[Path, tuple[tuple[int, int], Owner]] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class Owner:
    """Who has locked a folder.

    Attributes:
        what: The kind of run.
        pid: The process.
        host: Its machine.
        started: When it locked the folder, in words.
        command: How it was started.
        born: When the process began, in ticks of its machine's clock; 0 if that is not known.
    """

    what: str
    pid: int
    host: str
    started: str
    command: str
    born: int = 0

    def __str__(self) -> str:
        return (
            f"{self.what} by process {self.pid} on {self.host}, started {self.started} "
            f"({self.command})"
        )


@contextmanager
def folder_locked(folder: str | Path, what: str, option: str) -> Iterator[None]:
    """Lock a folder for one run; inside, the same thread may lock it again.

    A folder that is not there is not locked; whoever makes it inside locks it then.

    The kernel lets go of the lock when its process ends, in whatever way, so that what a killed run
    leaves is taken over. Where a file system has no locks, the file's text decides: a process of
    this machine is looked for. A folder that cannot be written is not locked.

    Args:
        folder (str | Path): The folder.
        what (str): The kind of run, for the other one's message.
        option (str): The option that names the folder, for the message.

    Raises:
        InputError: Another run has locked it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        yield
        return
    real, runner, owner = (
        Path(os.path.realpath(folder)),
        (os.getpid(), threading.get_ident()),
        _this_process(what),
    )
    with _guard:
        holder, other = _held.get(real, (None, None))
        if holder is None or holder[0] != os.getpid():  # of a process that this one is a copy of
            holder = None
            _held[real] = runner, owner
    if holder == runner:
        yield
        return
    if holder is not None:
        raise _in_use(folder, other, option)
    path, file = folder / LOCK_FILE, None
    try:
        file = _take(path, owner, option)
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()  # before the lock goes: afterwards it may be another run's
            os.close(file)
        with _guard:
            del _held[real]


def _take(path: Path, owner: Owner, option: str) -> int | None:
    """Lock the file and write the owner into it; None where nothing can be written."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return None
        try:
            _acquire(file, path, option)
            if not _is_there(file, path):  # its owner has removed it since it was opened
                os.close(file)
                continue
        except BaseException:
            os.close(file)
            raise
        with suppress(OSError):  # a full disk; the lock is there without words, too
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(asdict(owner)).encode(), 0)
        return file


def _acquire(file: int, path: Path, option: str) -> None:
    """Lock an open file, or raise an InputError if a run that goes on has locked it."""
    try:
        if fcntl is None:
            raise NotImplementedError
        # Not flock: data workers inherit that one, and may outlive a killed training for a while.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise _in_use(path.parent, _read(path), option) from None
    except (OSError, NotImplementedError):  # no locks on this file system
        owner = _read(path)
        if owner is None:
            return
        if owner.host != socket.gethostname():
            raise InputError(
                f"{path.parent} is in use, or was left so: {owner}. Whether that run goes on cannot"
                " be told from this machine, as the file system has no locks: if it has ended, "
                f"remove {path}; if not, wait for its end, or give another {option}"
            ) from None
        if owner.pid != os.getpid() and _lives(owner):
            raise _in_use(path.parent, owner, option) from None


def _in_use(folder: Path, owner: Owner | None, option: str) -> InputError:
    by = f": {owner}" if owner else " by another run"
    return InputError(
        f"{folder} is in use{by}. Two runs would mix their results: wait for its end, or give "
        f"another {option}"
    )


def _is_there(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _this_process(what: str) -> Owner:
    command = shlex.join(sys.argv)[:MAX_COMMAND]
    moment = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return Owner(what, os.getpid(), socket.gethostname(), moment, command, _born(os.getpid()))


def _read(path: Path) -> Owner | None:
    """Who is said to have locked a folder; None if that cannot be read."""
    try:
        content = read_small_json(path)
        owner = Owner(**content)
        return owner if isinstance(owner.pid, int) and owner.pid > 0 else None
    except (OSError, ValueError, TypeError):
        return None


def _lives(owner: Owner) -> bool:
    """Whether a process of this machine goes on; a later one may have its number."""
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # of another user
    return owner.born == 0 or _born(owner.pid) in (0, owner.born)


def _born(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
