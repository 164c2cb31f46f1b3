"""Pieces of work done in several ways, timed side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import Memory, measure_memory, measure_on_gpu

Call = Callable[[], Any]

# A GPU does short calls again within a round, until they take this long together.
SHORT = 0.02
MOST_CALLS = 100


@dataclass(frozen=True)
class Candidate:
    """One way to do a piece of work.

    Attributes:
        name: What it is called in tables.
        build: Makes the call that is timed; a function of a module, since another process runs it
            again to measure memory.
        arguments: Its arguments.
        flops: Multiplications and additions of one call, 2 for each pair. Defaults to None.
        limit: Name of the candidate whose rate of ``flops`` is the limit. Defaults to None.
        items: Images that one call works on. Defaults to None: no rate is shown.
        series: Curve that the candidate lies on in plots. Defaults to "", none.
        x: Its place along the curve.
        memory: Whether memory is worth measuring. Defaults to True.
        seconds_at_most: Longest median time in seconds. Defaults to None, only shown.
        memory_at_most: Most memory in bytes. Defaults to None, only shown.
    """

    name: str
    build: Callable[..., Call]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    flops: float | None = None
    limit: str | None = None
    items: int | None = None
    series: str = ""
    x: float = 0.0
    memory: bool = True
    seconds_at_most: float | None = None
    memory_at_most: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What is demanded of one candidate next to another.

    Attributes:
        ours: Name of the one.
        peer: Name of the other.
        speed: Least number of times by which ours is faster. Defaults to None, only shown.
        memory: Greatest part of the peer's memory that ours may take. Defaults to None.
        tolerance: Greatest difference of what they return, by the largest value. Defaults to None:
            they compute different things.
    """

    ours: str
    peer: str
    speed: float | None = None
    memory: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Case:
    """A piece of work and who does it.

    Attributes:
        name: As on the command line.
        title: What is done, in words.
        candidates: Who does it, in the order of the rounds.
        comparisons: What is demanded. Defaults to nothing.
        x_label: What changes along the curves of plots. Defaults to "".
        share: Least part of the limit that a candidate, by name, must reach. Defaults to none.
    """

    name: str
    title: str
    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...] = ()
    x_label: str = ""
    share: Mapping[str, float] = field(default_factory=dict)


def without(case: Case, names: Collection[str]) -> Case:
    """A case without some of its candidates, and what is said of them."""
    left = tuple(c for c in case.candidates if c.name not in names)
    left = tuple(replace(c, limit=None) if c.limit in names else c for c in left)
    compared = tuple(c for c in case.comparisons if not {c.ours, c.peer} & set(names))
    return replace(case, candidates=left, comparisons=compared)


@dataclass
class Measured:
    """What was measured of a candidate.

    Attributes:
        seconds: Time of each round.
        memory: Its memory; None if it was not measured.
        output: What it returned, as one flat float32 tensor on the CPU; None if not comparable.
    """

    seconds: list[float]
    memory: Memory | None = None
    output: Tensor | None = None

    @property
    def median(self) -> float:
        """Median time in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Shortest and longest time in seconds."""
        return min(self.seconds), max(self.seconds)


def run(
    case: Case,
    rounds: int,
    device: str,
    say: Callable[[str], None],
    failed: dict[str, str] | None = None,
) -> dict[str, Measured]:
    """Time all candidates in turn, round by round, then measure the memory of each.

    The rounds are interleaved, so that what else the machine does meets all alike. A first round
    warms up and is not counted. Memory is measured in a process for each candidate; that of a GPU,
    which torch counts, in the warm-up.

    Args:
        case (Case): The work.
        rounds (int): Rounds that count.
        device (str): Where it runs.
        say (Callable): Takes lines of progress.
        failed (dict, optional): Takes the errors of candidates that fail, by their names; the
            others go on. Defaults to None, an error ends it all.

    Returns:
        dict[str, Measured]: By the names of the candidates.
    """
    compared = {
        name
        for comparison in case.comparisons
        for name in (comparison.ours, comparison.peer)
        if comparison.tolerance is not None
    }
    on_gpu = torch.device(device).type == "cuda"
    calls: dict[str, Call] = {}
    measured = {c.name: Measured([]) for c in case.candidates}
    for candidate in case.candidates:
        name = candidate.name
        try:
            if on_gpu:
                calls[name], memory = measure_on_gpu(candidate.build, candidate.arguments, device)
                measured[name].memory = memory if candidate.memory else None
            else:
                calls[name] = candidate.build(**candidate.arguments)
        except Exception as error:
            if failed is None:
                raise
            failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {error}")
    for number in range(rounds + 1):
        for name, call in calls.items():
            seconds, output = timed(call, device)
            if number:
                measured[name].seconds.append(seconds)
            elif name in compared:
                measured[name].output = flat(output)
            del output
            say(
                f"{'warm-up' if not number else f'round {number}/{rounds}'}: {name} {seconds:.3g} s"
            )
    del calls
    for candidate in case.candidates:
        if candidate.memory and not on_gpu:
            say(f"memory: {candidate.name}")
            measured[candidate.name].memory = measure_memory(
                candidate.build, dict(candidate.arguments), device
            )
    return measured


def timed(call: Call, device: str) -> tuple[float, Any]:
    """Seconds that a call takes, to the end of the device's work, and what it returns.

    On a GPU they are those between two events of its stream; a short call is done several times.
    """
    if torch.device(device).type == "cuda":
        return _timed_by_events(call, device)
    start = time.perf_counter()
    output = call()
    return time.perf_counter() - start, output


def _timed_by_events(call: Call, device: str) -> tuple[float, Any]:
    calls = 1
    with torch.cuda.device(device):
        while True:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            first.record()
            for _ in range(calls):
                output = call()
            last.record()
            torch.cuda.synchronize()
            seconds = first.elapsed_time(last) / 1e3
            if seconds >= SHORT or calls == MOST_CALLS:
                return seconds / calls, output
            calls = min(MOST_CALLS, calls * 2 + int(SHORT / max(seconds / calls, 1e-6)))


def flat(output: Any) -> Tensor:
    """Put a tensor, or several in lists or tuples, into one vector, float64 where one is."""
    if isinstance(output, Tensor):
        output = output.detach().cpu().flatten()
        return output if output.dtype == torch.float64 else output.float()
    return torch.cat([flat(part) for part in output])


def difference(one: Tensor, two: Tensor) -> float:
    """Largest difference of two vectors, by the largest absolute value of the second.

    Infinite where their lengths differ.
    """
    if one.shape != two.shape:
        return float("inf")
    return ((one - two).abs().max() / two.abs().max()).item()
