"""Being told to end: SIGTERM is noted, and answered where the state of the training is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.hooks import Hook

TERMINATED_STATUS = 143  # 128 + SIGTERM, as shells report it


class Terminated(Exception):
    """The process was told to end and has saved what it had; the text says where."""


class Termination:
    """Whether this process has received SIGTERM, which clusters send some time before the end."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note the signal inside, in place of ending at once; outside of the main thread, don't.

        At the end the signals of termination and of ended children are answered as before.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)}
        signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # set by other than Python
                    signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def notice_dead_workers_when_fetching() -> None:
    """Take off torch's handler that raises wherever the program is when a data worker dies.

    It might be in the middle of writing a checkpoint. The loader looks after its workers itself
    while it waits for them.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class TerminationHook(Hook):
    """Leaves a validation, which may take longer than the time that is left.

    Args:
        termination (Termination): What has been asked of the process.
    """

    def __init__(self, termination: Termination) -> None:
        self.termination = termination

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Raise Terminated if the process was told to end."""
        if self.termination.requested:
            raise Terminated
