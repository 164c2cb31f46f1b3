"""Collective helpers that keep ranks in step; alone, each function is what one process does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from mmengine.dist import (
    all_gather_object,
    get_comm_device,
    get_rank,
    get_world_size,
    is_distributed,
)
from torch import Tensor, distributed

Result = TypeVar("Result")


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """Tell, for each flag, whether it is set in any process; all processes must call it."""
    if not is_distributed():
        return flags
    state = torch.tensor(flags, dtype=torch.uint8, device=get_comm_device())
    distributed.all_reduce(state, distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in state.tolist())


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Average scalars over the processes, which all have the same names."""
    mean = torch.stack([value.detach().float() for value in values.values()])
    if is_distributed():
        mean = mean.to(get_comm_device()) / get_world_size()
        distributed.all_reduce(mean)
    return dict(zip(values, mean.tolist(), strict=True))


def texts_of_all_ranks(text: str | None) -> list[str]:
    """Collect the texts of the processes that have one; all processes must call it."""
    texts = all_gather_object(text) if is_distributed() else [text]
    return [text for text in texts if text]


def run_on_all_ranks(function: Callable[[], Result]) -> Result:
    """Call a function in all processes; if it fails in any, none goes on.

    The error is raised in the first process that has one, and the others leave silently, with
    status 0: a launcher that sees another status ends the rest before the error is printed.

    Args:
        function (Callable): What to call.

    Returns:
        What the function returned in this process.
    """
    if not is_distributed():
        return function()
    result: Any = None
    error: Exception | None = None
    try:
        result = function()
    except Exception as found:
        error = found
    failed: list[bool] = [False] * distributed.get_world_size()
    distributed.all_gather_object(failed, error is not None)
    if any(failed):
        if error is not None and failed.index(True) == get_rank():
            raise error
        sys.exit(0)
    return result


def broadcast_from_rank0(function: Callable[[], Result]) -> Result:
    """Call a function in the first process, and give all of them what it returns.

    Args:
        function (Callable): What to call; its result must allow pickling. If it fails, the error
            is raised in the first process and the others leave, as in :func:`run_on_all_ranks`.

    Returns:
        What the function returned.
    """
    results: list[Any] = [run_on_all_ranks(lambda: function() if get_rank() == 0 else None)]
    if is_distributed():
        distributed.broadcast_object_list(results)
    return results[0]
