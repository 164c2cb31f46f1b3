"""How candidates are timed and their memory is measured."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

from benchmarks import benchmark
from benchmarks.benchmark import Candidate, Case, Comparison, difference, flat, run
from benchmarks.memory import CLEAR_REFS, measure_memory

MEGABYTE = 2**20
needs_proc = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux tells the peak")


def steps(log: list, name: str, value: float):
    def call() -> torch.Tensor:
        log.append(name)
        return torch.full((2,), value)

    return call


def allocate(kept: int, passing: int):
    weights = np.ones(kept * MEGABYTE, np.uint8)

    def call() -> int:
        return int(np.ones(passing * MEGABYTE, np.uint8)[-1]) + int(weights[-1])

    return call


def fails():
    raise ValueError("cannot be built")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def test_rounds_are_interleaved_and_the_first_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []
    times = iter([9.0, 9.0, 1.0, 4.0, 3.0, 6.0, 2.0, 8.0])
    monkeypatch.setattr(benchmark, "timed", lambda call, device: (next(times), call()))
    candidates = tuple(
        Candidate(name, steps, dict(log=log, name=name, value=value), memory=False)
        for name, value in (("a", 2.0), ("b", 1.0))
    )
    case = Case("s", "t", candidates, (Comparison("a", "b", tolerance=2.0),))
    found = run(case, 3, "cpu", lambda line: None)
    assert log == ["a", "b"] * 4
    assert found["a"].seconds == [1, 3, 2] and found["a"].median == 2
    assert found["b"].seconds == [4, 6, 8] and found["b"].spread == (4, 8)
    assert difference(found["a"].output, found["b"].output) == 1.0


def test_difference_is_relative_to_the_largest_value() -> None:
    one = [torch.tensor([[1.0, -8.0]]), (torch.tensor(0),)]
    two = [torch.tensor([[1.5, -10.0]]), (torch.tensor(0),)]
    assert difference(flat(one), flat(two)) == pytest.approx(0.2)
    assert difference(torch.ones(2), torch.ones(3)) == float("inf")
    assert flat(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


@needs_proc
def test_memory_is_that_of_the_call_and_of_what_was_built() -> None:
    found = measure_memory(allocate, dict(kept=100, passing=300), "cpu")
    assert 295 < found.working / MEGABYTE < 330
    assert 395 < found.total / MEGABYTE < 440


@needs_proc
@pytest.mark.slow  # starts two processes that import all
def test_a_failure_in_the_other_process_is_told() -> None:
    with pytest.raises(RuntimeError, match="ValueError: cannot be built"):
        measure_memory(fails, {}, "cpu")
    with pytest.raises(RuntimeError, match="status -9; out of memory"):
        measure_memory(dies, {}, "cpu")
