"""Being told to end: SIGTERM or Ctrl-C is noted, and answered where the training is whole."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.hooks import Hook

SAME_REQUEST = 0.5  # seconds; a launcher and a terminal may both send the signal
HINT = b"\ninterrupted: writing a checkpoint and ending; Ctrl-C once more ends at once\n"


class Terminated(Exception):
    """The process was told to end and has saved what it had; the text says where.

    Args:
        text (str): The text. Defaults to ''.
        number (int): The signal. Defaults to SIGTERM.

    Attributes:
        status (int): The exit status for it, as shells report it.
    """

    def __init__(self, text: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(text)
        self.status = 128 + number


class Termination:
    """Whether this process was told to end, by SIGTERM or Ctrl-C.

    Clusters send SIGTERM some time before the end. The first Ctrl-C is answered as SIGTERM is, and
    the second ends at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._moment = 0.0

    @property
    def requested(self) -> bool:
        """bool: Whether it was."""
        return self.number is not None

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note the signals inside, in place of ending at once; outside of the main thread, don't.

        At the end they are answered as before.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: handler
            for number in (signal.SIGTERM, signal.SIGINT)
            # Not where somebody has had them ignored, nohup for one, or set by other than Python.
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        for number in before:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise Terminated if the process was told to end."""
        if self.requested:
            raise self.error()

    def error(self, text: str = "") -> Terminated:
        """Make the exception to raise; of a process that others tell to end, too."""
        return Terminated(text, self.number or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._moment = number, now
            if number == signal.SIGINT:
                os.write(2, HINT)  # print() may be what was interrupted
        elif number == signal.SIGINT and now - self._moment > SAME_REQUEST:
            raise KeyboardInterrupt


class TerminationHook(Hook):
    """Leaves a validation, which may take longer than the time that is left.

    Args:
        termination (Termination): What has been asked of the process.
    """

    def __init__(self, termination: Termination) -> None:
        self.termination = termination

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Raise Terminated if the process was told to end."""
        self.termination.check()
