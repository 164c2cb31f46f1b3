"""Free memory goes back to the system, however long a training runs."""

from __future__ import annotations

import ctypes
from typing import Any

from mmengine.hooks import Hook


class FreeMemoryHook(Hook):
    """Has the C library return what training has freed, every 100 iterations.

    glibc keeps what tensors on the CPU leave free between others, and takes more where new ones do
    not fit in: beit3-tiny-pretraining-images_128_shapes came from 1.1 to 6 GiB, of which it used
    0.9. Other libraries than glibc are left alone.
    """

    priority = "VERY_LOW"
    EVERY = 100  # iterations; once takes about 15 ms

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Return it when its time has come."""
        if self._trim is not None and self.every_n_train_iters(runner, self.EVERY):
            self._trim(ctypes.c_size_t(0))
