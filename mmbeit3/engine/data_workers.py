"""Data workers that never outlive the training, and whose death never leaves it waiting."""

from __future__ import annotations

import atexit
import copy
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torch.utils.data._utils import signal_handling

from mmbeit3.utils import InputError

PR_SET_PDEATHSIG = 1  # prctl(2)
ENDING = (signal.SIGINT, signal.SIGTERM)
POLL = 0.2  # seconds between looks at the workers while waiting for a batch
NOTICED_WITHIN = 1.0  # seconds until a broken connection is known to be that of a dead worker
HANDED_ON = "in DataLoader worker process"  # torch, of an error that a data set has raised
OFF_ITS_OWN = "DataLoader worker (pid"  # torch, of a worker that is gone
GRACE = 5.0  # seconds that workers have to end by themselves
ADVICE = {
    signal.SIGKILL: "A worker that is killed has mostly run out of main memory: lower {name}."
    "num_workers",
    signal.SIGBUS: "Shared memory (/dev/shm) is mostly full then: enlarge it (docker run "
    "--shm-size=8g) or lower {name}.num_workers",
}
CRASH = "A worker that crashes does so on its image or in its transforms: read that sample alone"

_watched: weakref.WeakSet[WatchedIterator] = weakref.WeakSet()


class WorkerLoader(DataLoader):
    """As torch's, but it looks after its workers while it waits for them.

    A worker that is killed in the middle of handing over a batch leaves half a message and a held
    lock behind, for which torch waits for ever: in the process itself, in its thread for pinned
    memory and in the other workers. Here a thread of its own waits for the batch, and the caller
    for that thread, for a worker's end or for a reason to leave, whatever comes first.

    Workers hear neither Ctrl-C nor SIGTERM, which come to all processes of a group: the process
    that started them decides when they end.
    """

    name = "the dataloader"

    def stop(self) -> None:
        """Raise what ends the waiting for a batch; asked several times a second."""

    def _get_iterator(self) -> Iterator[Any]:
        return WatchedIterator(self) if self.num_workers else super()._get_iterator()


class WatchedIterator:
    """The batches of a loader with workers.

    Args:
        loader (WorkerLoader): The loader.
    """

    def __init__(self, loader: WorkerLoader) -> None:
        self._loader = loader
        self._owner = os.getpid()
        self._is_waiting = self._is_exhausted = False
        self._last_samples = torch.full((loader.num_workers,), -1).share_memory_()
        view = copy.copy(loader)
        context = loader.multiprocessing_context or multiprocessing
        parent = None if context.get_start_method() == "forkserver" else self._owner
        view.worker_init_fn = partial(start_worker, loader.worker_init_fn, parent)
        if not isinstance(loader.dataset, IterableDataset):
            # The loader's own stays as it is, for those who look at it or change it.
            view.__dict__["dataset"] = _NotingDataset(loader.dataset, self._last_samples)
        with _as_workers_start():
            self._batches = DataLoader._get_iterator(view)
        _forget_in_torch(self._batches)
        self.workers = list(self._batches._workers)
        self._calls: SimpleQueue = SimpleQueue()
        threading.Thread(target=_serve, args=(self._calls,), daemon=True).start()
        self._is_closed = False
        _watched.add(self)

    def __iter__(self) -> WatchedIterator:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Any:
        if self._is_exhausted:
            raise StopIteration
        try:
            return self._call(partial(next, self._batches))
        except StopIteration:
            self._is_exhausted = True
            if not self._loader.persistent_workers:
                self.close()
            raise

    def __del__(self) -> None:
        # Collected with it, the queues are closed already: the workers would not hear of their end.
        self.close(at_once=True)

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        """Begin another pass with the same workers; called by torch."""
        self._is_exhausted = False
        self._call(partial(self._batches._reset, loader, first_iter))

    def close(self, at_once: bool = False) -> None:
        """End the workers; those that are still reading after a while, or at once, are killed."""
        # One that was forked has a copy, and no workers.
        if getattr(self, "_is_closed", True) or os.getpid() != self._owner:
            return
        self._is_closed = True
        if self._loader._iterator is self:  # of a loader with persistent workers
            self._loader._iterator = None
        self._calls.put(None)
        if hasattr(self._batches, "_worker_result_queue"):  # a lock may be held by a dead worker
            self._batches._worker_result_queue.cancel_join_thread()
        at_once |= self._is_waiting or any(worker.exitcode for worker in self.workers)
        if at_once:
            self._kill()
        # In a thread, as what torch does here may wait for such a lock, too.
        ending = threading.Thread(target=self._batches._shutdown_workers, daemon=True)
        ending.start()
        ending.join(GRACE / 10 if at_once else GRACE)
        self._kill()

    def _kill(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join(GRACE)

    def _call(self, function: Callable[[], Any]) -> Any:
        """Call a function that reads from the workers, and give what it returns."""
        if self._is_closed:
            raise RuntimeError("the workers of these batches have been ended")
        try:
            self._check()
            self._is_waiting = True
            answers: SimpleQueue = SimpleQueue()
            self._calls.put((function, answers))
            while True:
                try:
                    result, error = answers.get(timeout=POLL)
                    break
                except Empty:
                    self._check()
        except BaseException:
            self.close()
            raise
        self._is_waiting = False
        if error is None:
            return result
        if not isinstance(error, StopIteration) and HANDED_ON not in str(error):
            is_broken = isinstance(error, (OSError, EOFError)) or OFF_ITS_OWN in str(error)
            self._look_for_dead(count_quiet=is_broken)
        raise error

    def _check(self) -> None:
        self._loader.stop()
        self._raise_for_dead()

    def _raise_for_dead(self, count_quiet: bool = False) -> None:
        """Raise InputError if workers have failed, or ended at all."""
        ended = {number: worker.exitcode for number, worker in enumerate(self.workers)}
        dead = [n for n, code in ended.items() if code or (count_quiet and code == 0)]
        if dead:
            raise InputError(self._describe(dead))

    def _look_for_dead(self, count_quiet: bool) -> None:
        """Find who is to blame; the system closes a worker's connections before it has ended."""
        until = time.monotonic() + NOTICED_WITHIN
        try:
            while time.monotonic() < until:
                self._raise_for_dead(count_quiet)
                time.sleep(0.02)
        except InputError:
            self.close()
            raise

    def _describe(self, dead: Sequence[int]) -> str:
        """Say which workers have ended, at which samples, and what to do."""
        ends, samples = {}, []
        for number in dead:
            ends[_end(self.workers[number].exitcode)] = self.workers[number].exitcode
            if (index := int(self._last_samples[number])) >= 0:
                samples.append(describe_sample(self._loader.dataset, index))
        code = next(iter(ends.values()))
        advice = ADVICE.get(-code, CRASH).format(name=self._loader.name)
        return (
            f"a data worker of {self._loader.name} died ({', '.join(ends)}); the last sample that "
            f"it read is {' or '.join(samples) or 'not known'}. {advice}"
        )


class DatasetWrapper(Dataset):
    """A data set around another, whose attributes are found here too.

    Args:
        dataset (Dataset): The other.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name in ("dataset", "__setstate__"):  # absent while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


class _NotingDataset(DatasetWrapper):
    """A data set that notes which sample each worker is at."""

    def __init__(self, dataset: Dataset, last_samples: Tensor) -> None:
        super().__init__(dataset)
        self.last_samples = last_samples

    def __getitem__(self, index: Any) -> Any:
        self._note(index)
        return self.dataset[index]

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        read = getattr(self.dataset, "__getitems__", None)
        if read is None:
            return [self[index] for index in indices]
        self._note(indices[0])
        return read(indices)

    def _note(self, index: Any) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.last_samples[worker.id] = int(index) if isinstance(index, int) else -1


def describe_sample(dataset: Any, index: int) -> str:
    """Name a sample by its number and, where the data set tells, its image file."""
    try:
        path = dataset.get_data_info(index).get("img_path")
    except Exception:  # some other library's data set
        path = None
    return f"{index} ({path})" if path else str(index)


def start_worker(init: Callable[[int], None] | None, parent: int | None, worker_id: int) -> None:
    """Begin a data worker: have the kernel end it with its parent, then do what was to be done.

    Workers of a training that was killed would wait for ever to hand over their last batches, each
    holding its memory. Linux only; elsewhere nothing is asked of the system.

    Args:
        init (Callable, optional): What the loader was to call.
        parent (int, optional): The process id of the training; None if a server has forked the
            worker, which ends with the training, too.
        worker_id (int): The worker's number.
    """
    _block(ENDING)  # again, as a server that forks has the mask of its own start
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # killed before the call
            os._exit(1)
    if init is not None:
        init(worker_id)


def _serve(calls: SimpleQueue) -> None:
    """Call functions and hand over what they return or raise, until there is None."""
    while (call := calls.get()) is not None:
        function, answers = call
        try:
            answer: tuple[Any, BaseException | None] = (function(), None)
        except BaseException as error:
            answer = (None, error)
        answers.put(answer)
        del call, function, answers, answer  # batches are large


@contextmanager
def _as_workers_start() -> Iterator[None]:
    """Have processes that are started inside not hear what is sent to end this one.

    torch's handler of SIGCHLD, which raises wherever the program is when a worker dies, in the
    middle of writing a checkpoint even, is taken off again where it was not there before.
    """
    if os.name == "posix":
        resource_tracker.ensure_running()  # its start would change the mask
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if is_main and os.name == "posix" else None
    mask = _block(ENDING)
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _forget_in_torch(batches: Any) -> None:
    """Have torch's handler of SIGCHLD, which a loader of somebody else has put in, pass these."""
    if getattr(batches, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False


def _block(signals: Sequence[signal.Signals]) -> set[int] | None:
    if os.name != "posix":
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _end(code: int) -> str:
    try:
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    except ValueError:
        return f"by signal {-code}"


@atexit.register
def _end_all() -> None:
    """End all workers: multiprocessing would wait for those that do not hear its SIGTERM."""
    for iterator in list(_watched):
        iterator.close()
