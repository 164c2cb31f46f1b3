"""Work that flows: items through threads in order, progress with a remaining time, files whole."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmbeit3.utils.whole_files import write_all, write_whole, writing

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Without a terminal, a line of progress is printed after this many seconds.
LOG_INTERVAL = 10.0


def map_ahead(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
    weigh: Callable[[Item], int] = lambda _: 1,
) -> Iterator[Result]:
    """Apply a function in a pool, ahead of who takes the results; their order is that of the items.

    Args:
        pool (Executor): Where the function runs.
        function (Callable): Takes an item.
        items (Iterable): Taken one by one, here, and only as far ahead as ``limit`` allows.
        limit (int): Greatest weight of the items handed to the pool whose results were not taken;
            one item is always allowed.
        weigh (Callable): The weight of an item. Defaults to 1 for each.

    Yields:
        What the function returns.
    """
    pending: deque[Any] = deque()
    weight = 0
    for item in items:
        pending.append((pool.submit(function, item), weigh(item)))
        weight += pending[-1][1]
        while pending and (weight > limit or pending[0][0].done()):
            future, its_weight = pending.popleft()
            weight -= its_weight
            yield future.result()
            if weight <= limit:
                break  # top up first, so that the pool never runs dry
    while pending:
        yield pending.popleft()[0].result()


def track(results: Iterable[Result], total: int, what: str = "images") -> Iterator[Result]:
    """Pass results on, showing how many are done, the rate, and the time remaining.

    Args:
        results (Iterable): What to pass on, one for each.
        total (int): How many there will be.
        what (str): What to call those that are counted. Defaults to "images".

    Yields:
        The results.
    """
    console = Console()
    columns = (
        *(TextColumn("inference"), BarColumn(), MofNCompleteColumn()),
        TextColumn(what + ", {task.fields[rate]:.1f} per second, remaining"),
        TimeRemainingColumn(),
    )
    start = logged = time.perf_counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, rate=0.0)
        for done, result in enumerate(results, 1):
            now = time.perf_counter()
            rate = done / (now - start)
            progress.update(task, completed=done, rate=rate)
            if not console.is_terminal and now - logged >= LOG_INTERVAL:
                logged = now
                remaining = timedelta(seconds=round((total - done) / rate))
                print(f"{done}/{total} {what}, {rate:.1f} per second, {remaining} remaining")
            yield result


class JsonList:
    """A JSON list on disk that grows, and appears under its name once closed.

    It is closed when the ``with`` block ends, in whatever way; then it holds all entries whose
    :meth:`append` came to its end, and replaces an older file as a whole. What cannot be written
    raises a :class:`~mmbeit3.utils.whole_files.WriteError`.

    Args:
        path (Path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> JsonList:
        with writing(self.path):
            self._file = self._part.open("wb", buffering=0)  # a full disk shows at once
            write_all(self._file, b"[")
        self._end = 1
        self._separator = b"\n"
        return self

    def append(self, entries: list[str]) -> None:
        """Add entries, each the JSON of one."""
        if entries:
            text = self._separator + b",\n".join(entry.encode() for entry in entries)
            with writing(self.path):
                write_all(self._file, text)
            self._separator = b",\n"
            self._end += len(text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with writing(self.path):
                self._file.seek(self._end)  # an append that was interrupted leaves nothing behind
                self._file.truncate()
                write_all(self._file, b"\n]\n")
                self._file.close()
                os.replace(self._part, self.path)
        finally:
            self._file.close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, replacing an older one as a whole.

    Args:
        path (Path): The file.
        content (Any): What ``json.dumps`` takes.

    Raises:
        WriteError: It cannot be written; an older one is as it was.
    """
    write_whole(path, json.dumps(content, indent=2) + "\n")
