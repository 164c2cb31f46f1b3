"""Process pool of the converters: it ends soon after Ctrl-C, and with its first process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, TypeVar

from rich.progress import Progress

from mmbeit3.utils import InputError
from mmbeit3.utils.cores import count_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

_stop: Any = None  # multiprocessing.Event of this process's pool


class Stopped(Exception):
    """The pool ends before the job is done."""


def run_in_processes(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    title: str,
    num_workers: int | None = None,
    chunk: int = 1,
    progress: bool = False,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Call a function for each job, in several processes.

    Args:
        function: A function of a module. If a job takes long, it calls :func:`check_stop`.
        jobs: Its arguments.
        title: What to call the work beside the bar.
        num_workers: Processes. Defaults to None, the number of CPU cores.
        chunk: Jobs that a process takes at a time. Defaults to 1.
        progress: Whether to show a progress bar. Defaults to False.
        on_result: Called in this process with each result, in the order in which they come; with
            those before an error, too. Defaults to None.

    Returns:
        The results, in the order of the jobs.

    Raises:
        InputError: The function raised it, or a process was killed.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"the number of processes is {num_workers}, expected 1 or more")
    if not jobs:
        return []
    starts = range(0, len(jobs), chunk)
    num_workers = min(num_workers or count_cores(), len(starts))
    context = multiprocessing.get_context()
    stop = context.Event()
    futures: dict[Future, int] = {}
    results: dict[int, list[Result]] = {}

    def take(future: Future) -> None:
        """Keep a chunk's results, and raise the error that ended it."""
        start = futures.pop(future)
        found, error = future.result()
        if on_result is not None:
            for result in found:
                on_result(result)
        if error:
            raise error
        results[start] = found

    with ProcessPoolExecutor(num_workers, context, _start, (stop,)) as pool:
        try:
            # All processes start here, before the progress bar has a thread that a fork would cut.
            futures |= {
                pool.submit(_run, function, jobs[start : start + chunk]): start for start in starts
            }
            with Progress(disable=not progress) as bar:
                task = bar.add_task(title, total=len(jobs))
                for future in as_completed(list(futures)):
                    take(future)
                    bar.advance(task, chunk)
        except BrokenProcessPool as error:
            raise InputError(
                "a process was killed from outside, perhaps because memory ran out: start again "
                "with fewer --workers; what is done is kept"
            ) from error
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            for future in list(futures):  # results that came in the meantime
                with suppress(Exception):
                    take(future)
            raise
    return [result for start in starts for result in results[start]]


def check_stop() -> None:
    """Leave a job whose pool is ending; does nothing in a process that is of no pool."""
    if _stop is not None and _stop.is_set():
        raise Stopped


def _start(stop: Any) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches all processes; the first one ends the others, without their tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Files are written under another name until they are whole, so nothing is spoiled."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run(
    function: Callable[[Job], Result], jobs: Sequence[Job]
) -> tuple[list[Result], Exception | None]:
    """The results, up to the first error."""
    results: list[Result] = []
    for job in jobs:
        check_stop()
        try:
            results.append(function(job))
        except Exception as error:
            return results, error
    return results, None
