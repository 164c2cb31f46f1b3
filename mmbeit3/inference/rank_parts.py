"""A folder divided over processes: who takes which images, and how their results come together.

Each process notes what became of its images in a journal, a file below the output folder. The first
process puts the journals together in the order of the images, as if it had done them all. During
the run the processes do not wait for each other, and what is in a journal outlives its process.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info

from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Failed
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.writer import Written
from mmbeit3.utils import InputError
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks
from mmbeit3.utils.whole_files import WriteError, make_folder, write_all, writing

#: The folder of the journals, below the output folder, while the processes run.
PARTS = ".mmbeit3-parts"
#: Once told to end, the first process waits so long (seconds) for what the others have to write.
#: torchrun and Slurm allow 30 s.
GRACE = 15.0
POLL = 0.1  # seconds


def own_share(sources: Sequence[Source], batch_size: int) -> list[Source]:
    """Return the images of this process: every n-th batch of those that one process would form.

    Whole batches, because results may differ in the last digits with the images beside them.
    """
    rank, size = get_dist_info()
    return [source for place, source in enumerate(sources) if place // batch_size % size == rank]


def make_parts(out_dir: Path) -> Path:
    """Make the folder of the journals, anew; all processes must call it.

    Raises:
        InputError: If a process does not see the folder that the first one made.
    """
    parts = out_dir / PARTS

    def make() -> None:
        shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed
        make_folder(parts)

    def check() -> None:
        if not parts.is_dir():
            rank, size = get_dist_info()
            raise InputError(
                f"process {rank + 1} of {size} does not see {parts.absolute()}, which the first "
                "one made: the output folder must be on a file system that all machines share"
            )

    broadcast_from_rank0(make)
    run_on_all_ranks(check)
    return parts


class Journal:
    """What became of the images of this process, one line for each.

    Args:
        folder (Path): Where the journals of all processes are.
        rank (int): The number of this process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._end = _end_of(folder, rank)
        self._path = _lines_of(folder, rank)

    def __enter__(self) -> Journal:
        with writing(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._length = 0
        return self

    def add(self, outcome: Failed | Written) -> None:
        """Note one image, on the disk when this returns.

        Raises:
            WriteError: It cannot be written.
        """
        content = {key: value for key, value in vars(outcome).items() if key != "source"}
        line = json.dumps([outcome.source.image_id, content], default=np.ndarray.tolist) + "\n"
        with writing(self._path):
            os.truncate(self._path, self._length)  # one that was interrupted
            write_all(self._file, line.encode())
            self._length = self._file.tell()

    def end(self, interrupted: bool, error: str | None) -> None:
        """Say that there will be no more, and how the process ended."""
        try:
            write_json(self._end, {"interrupted": interrupted, "error": error})
        except WriteError:
            self._end.touch()  # for which a full disk has room

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def merge(
    folder: Path, sources: Sequence[Source], size: int, written: type[Written]
) -> Iterator[Failed | Written]:
    """Yield what became of the images, from the journals of all processes, in order.

    Args:
        folder (Path): Where the journals are.
        sources (Sequence[Source]): All images.
        size (int): How many processes there are.
        written (type[Written]): Kind of the images that are done.
    """
    journals = [_lines(_lines_of(folder, rank)) for rank in range(size)]
    for image_id, content in heapq.merge(*journals, key=lambda line: line[0]):
        kind = Failed if "reason" in content else written
        yield kind(sources[image_id - 1], **content)


def await_all(folder: Path, size: int, told_to_end: Callable[[], bool]) -> None:
    """Wait until all processes have ended their journals; not for long if told to end.

    Args:
        folder (Path): Where the journals are.
        size (int): How many processes there are.
        told_to_end (Callable): Whether this process was told to end; then others were, too, or one
            of them is dead.
    """
    deadline = float("inf")
    missing = list(range(size))
    while missing and time.monotonic() < deadline:
        if told_to_end() and deadline == float("inf"):
            deadline = time.monotonic() + GRACE
        try:
            missing = [rank for rank in missing if not _end_of(folder, rank).exists()]
            time.sleep(POLL * bool(missing))
        except KeyboardInterrupt:
            if deadline < float("inf"):
                raise
            deadline = time.monotonic() + GRACE


def endings(folder: Path, size: int) -> list[dict[str, Any]]:
    """Return how each process ended: ``interrupted`` and ``error``, as :meth:`Journal.end`."""
    found = []
    for rank in range(size):
        end = _end_of(folder, rank)
        text = end.read_text(encoding="utf-8") if end.exists() else None
        fate = "was killed" if text is None else "could not write its results: no room"
        found.append(
            json.loads(text)
            if text
            else {"interrupted": True, "error": f"process {rank + 1} of {size} {fate}"}
        )
    return found


def _lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield the whole lines of a journal, which may be absent or cut."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("]\n"):  # one that was interrupted has no end
                yield tuple(json.loads(line))


def _lines_of(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.jsonl"


def _end_of(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.end.json"
