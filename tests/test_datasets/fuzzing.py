"""What tests of many mutated inputs share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SECONDS = 30  # a busy machine takes some for what is done at once


@contextmanager
def time_limit(mutation: int) -> Iterator[None]:
    """Fail a test in which a mutation takes longer than 30 s."""

    def stop(*_: object) -> None:
        pytest.fail(f"mutation {mutation} takes longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
