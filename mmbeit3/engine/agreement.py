"""Processes of one training that decide together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.dist import all_gather_object, get_comm_device, get_world_size, is_distributed
from torch import Tensor, distributed


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Tell, for each flag, whether it is set in any process; all processes must call it."""
    if not is_distributed():
        return flags
    state = torch.tensor(flags, dtype=torch.uint8, device=get_comm_device())
    distributed.all_reduce(state, distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in state.tolist())


def mean_of_processes(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Average scalars over the processes, which all have the same names."""
    mean = torch.stack([value.detach().float() for value in values.values()])
    if is_distributed():
        mean = mean.to(get_comm_device()) / get_world_size()
        distributed.all_reduce(mean)
    return dict(zip(values, mean.tolist(), strict=True))


def texts_of_all(text: str | None) -> list[str]:
    """Collect the texts of the processes that have one; all processes must call it."""
    texts = all_gather_object(text) if is_distributed() else [text]
    return [text for text in texts if text]
