"""Checks that read all files of a data set: in threads, and kept until one of the files changes."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from mmengine.logging import print_log
from rich.progress import Progress

from mmbeit3.utils.regular_files import refuse_endless
from mmbeit3.utils.text_files import printable
from mmbeit3.utils.whole_files import WriteError, write_whole

LARGE = 500  # files from which on a check shows its progress and its result is kept
NUM_THREADS = 8
FIRST_SAID, SAY_AGAIN = 2.0, 60.0  # seconds of waiting for another process that is said
CHUNK = 50  # files that a thread takes at a time
CHECKSUM = 64  # digits of a SHA-256
CHECKSUM_LINE = re.compile(rb"[0-9a-f]{64}\n")

Item = TypeVar("Item")
Result = TypeVar("Result")


def keep(
    kind: str,
    paths: Iterable[str],
    source: str,
    check: Callable[[], Any],
    is_costly: bool = False,
) -> Any:
    """Run a check, or return what it found when all its files were as they are now.

    The result on at least 500 files is kept in ``$XDG_CACHE_HOME/mmbeit3`` (by default
    ``~/.cache/mmbeit3``) under the paths, sizes and times of all of them. Processes that start
    together do the work once between them. What cannot be kept is done again next time, and so is
    what was kept in a file that is not as it was written.

    Args:
        kind: Name of the check, and of all else that its result depends on.
        paths: The files; all must exist.
        source: What to call the data set in messages.
        check: The work. It returns what JSON can hold; where it raises, nothing is kept.
        is_costly: Whether to keep what was found in fewer files, too. Defaults to False.

    Returns:
        What ``check`` returned, now or earlier; in the latter case as JSON gives it back.
    """
    rest = iter(paths)
    first = list(itertools.islice(rest, LARGE))
    if len(first) < LARGE and not is_costly:
        return check()
    with ExitStack() as stack:
        try:
            file = _cache_file(kind, itertools.chain(first, rest))
            stack.enter_context(locked(file, f"checks {source}"))
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
            _say_not_kept(source, error)
            return check()
        found = _load(file, source)
        if found is None:
            found = (check(),)
            _save(found[0], file, source)
        return found[0]


@contextmanager
def locked(file: Path, doing: str) -> Iterator[None]:
    """Wait for another process that does the same work for a file, and say so.

    Args:
        file: What is written.
        doing: What a process does that one waits for, in words.
    """
    lock, waited = FileLock(f"{file}.lock"), 0.0
    while True:
        pause = SAY_AGAIN if waited else FIRST_SAID
        try:
            lock.acquire(timeout=pause)
            break
        except Timeout:
            waited += pause
            say(
                f"waiting {waited:.0f} s for another process that {printable(doing)}, and "
                f"holds {lock.lock_file}; if it does not go on, end it: its lock ends with it"
            )
    try:
        yield
    finally:
        lock.release()


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """Yield the results of a function in the order of the items, with a progress bar for many.

    Args:
        function: What to do with an item; it spends its time in reading and decoding.
        items: The items.
        title: What to call the work beside the bar.
    """

    def do_chunk(start: int) -> list[Result]:
        return [function(item) for item in items[start : start + CHUNK]]

    pool = ThreadPoolExecutor(NUM_THREADS)
    try:
        with Progress(disable=len(items) < LARGE) as progress:
            task = progress.add_task(title, total=len(items))
            for results in pool.map(do_chunk, range(0, len(items), CHUNK)):
                progress.advance(task, len(results))
                yield from results
    finally:  # an interrupted check must not go through the files that are left
        pool.shutdown(cancel_futures=True)


def _cache_file(kind: str, paths: Iterable[str]) -> Path:
    rest = iter(paths)
    chunks = iter(lambda: list(itertools.islice(rest, 1000)), [])
    digest = hashlib.sha256(kind.encode())
    with ThreadPoolExecutor(NUM_THREADS) as pool:  # on a network, waiting takes the time
        for states in pool.map(_states, chunks):
            digest.update(states)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mmbeit3")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{kind.partition(' ')[0]}-{digest.hexdigest()[:16]}.json"


def _states(paths: list[str]) -> bytes:
    lines = []
    for path in map(os.path.abspath, paths):
        state = os.stat(path)
        lines.append(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0")
    return "".join(lines).encode(errors="surrogateescape")


def say(text: str) -> None:
    """Print a line; the logger is silent while the data of a training are checked."""
    print(text, file=sys.stderr, flush=True)


def _say_not_kept(source: str, error: Exception) -> None:
    print_log(f"the check of {printable(source)} is not kept: {error}", "current", logging.WARNING)


def _save(result: Any, file: Path, source: str) -> None:
    content = json.dumps(result).encode()
    try:
        write_whole(file, f"{_checksum(file, content)}\n".encode() + content)
    except WriteError as error:  # here, as what took minutes must not be done twice
        _say_not_kept(source, error)


def _load(file: Path, source: str) -> tuple[Any] | None:
    """What was kept; None if nothing was, or something else than was written is there."""
    try:
        refuse_endless(file)
        with file.open("rb") as stream:
            checksum = stream.read(CHECKSUM + 1)
            # A file of another kind may be of any size.
            content = stream.read() if CHECKSUM_LINE.fullmatch(checksum) else b""
        if checksum[:CHECKSUM].decode() != _checksum(file, content):
            raise ValueError("its content is not what was written")
        return (json.loads(content),)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        say(
            f"the check of {printable(source)} is done again: what was kept of it in {file} cannot "
            f"be used ({reason})"
        )
        return None


def _checksum(file: Path, content: bytes) -> str:
    """Of a kept result and of what it is the result of, which the file's name tells."""
    return hashlib.sha256(file.name.encode() + b"\n" + content).hexdigest()
