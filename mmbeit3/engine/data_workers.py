"""Data workers that do not outlive the training."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # prctl(2)


def start_worker(init: Callable[[int], None] | None, parent: int, worker_id: int) -> None:
    """Begin a data worker: have the kernel end it with its parent, then do what was to be done.

    Workers of a training that was killed would wait for ever to hand over their last batches, each
    holding its memory. Linux only; elsewhere nothing is asked of the system.

    Args:
        init (Callable, optional): What the loader was to call.
        parent (int): The process id of the training.
        worker_id (int): The worker's number.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed before the call
            os._exit(1)
    if init is not None:
        init(worker_id)
