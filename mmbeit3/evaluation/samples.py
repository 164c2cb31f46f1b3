"""Samples of an evaluation, of all processes: each once, in order, and none missing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from mmengine.dist import all_gather_object, is_distributed
from mmengine.evaluator import BaseMetric

from mmbeit3.utils import InputError, listed
from mmbeit3.utils.collective import broadcast_from_rank0


class Sample(Protocol):
    """What a metric keeps of a sample."""

    @property
    def id(self) -> int | str:
        """What no other sample of the data set has."""

    @property
    def path(self) -> str:
        """Where it comes from, for messages."""

    @property
    def sample_idx(self) -> int | None:
        """Its place in the data set, where that is known."""


Kept = TypeVar("Kept", bound=Sample)


class GatheredMetric(BaseMetric):
    """A metric that keeps a :class:`Sample` of each, and scores those of all processes once."""

    results: list[Any]

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather what all processes have, score it and write it.

        Args:
            size: The number of samples of the data set.

        Returns:
            The metrics by name, with prefix.
        """
        results, self.results = gather(self.results), []
        metrics = broadcast_from_rank0(lambda: self.compute_metrics(results, size))
        return {f"{self.prefix}/{name}" if self.prefix else name: v for name, v in metrics.items()}

    @abstractmethod
    def compute_metrics(self, results: list[Any], size: int | None = None) -> dict[str, float]:
        """Score what was gathered.

        Args:
            results: The samples, in any order.
            size: How many there must be. Defaults to None, not known.

        Returns:
            The metrics by name.
        """


def gather(samples: list[Kept]) -> list[Kept]:
    """Collect what all processes kept; all of them must call it."""
    parts = all_gather_object(samples) if is_distributed() else [samples]
    return [sample for part in parts for sample in part]


def once_each(samples: Iterable[Kept], what: str = "image") -> list[Kept]:
    """Leave out what samplers gave out twice, and restore the order of the data set.

    Args:
        samples: The samples, in any order.
        what: What they are, for the messages. Defaults to 'image'.

    Raises:
        InputError: There are none, or an id stands for two.
    """
    found: dict[int | str, Kept] = {}
    for sample in samples:
        first = found.setdefault(sample.id, sample)
        if (first.path, first.sample_idx) != (sample.path, sample.sample_idx):
            raise InputError(
                f"the {what} id {sample.id} stands for {first.path} and for {sample.path}: "
                f"number the {what}s anew, or evaluate their data sets one by one"
            )
    if not found:
        raise InputError(f"no {what} was evaluated: the data set of the evaluation is empty")
    return sorted(found.values(), key=_order)


def _order(sample: Sample) -> tuple[int, str, int | str]:
    index = -1 if sample.sample_idx is None else sample.sample_idx
    return index, type(sample.id).__name__, sample.id


def check_complete(samples: Sequence[Sample], size: int | None, what: str, why: str) -> None:
    """Make sure that all samples of the data set are there.

    Args:
        samples: The samples, each once.
        size: How many there must be; None if that is not known.
        what: What they are, for the message.
        why: Why all are needed.

    Raises:
        InputError: Some are missing.
    """
    if size is None or len(samples) == size:
        return
    indices = {sample.sample_idx for sample in samples}
    absent = [number for number in range(size) if number not in indices]
    which = f", the samples {listed(absent)} of the data set" if len(absent) < size else ""
    raise InputError(
        f"{len(samples):,} of the {size:,} {what}s were evaluated; {size - len(samples):,} are "
        f"missing{which}: {why}. Was drop_last set, or have {what}s the same id?"
    )
