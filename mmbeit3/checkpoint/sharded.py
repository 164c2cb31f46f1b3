"""Tensors that are divided over processes, and the whole ones that files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def whole(value: Any) -> Any:
    """Give a nested state with every sharded tensor in full, and all tensors on the CPU.

    All processes must call it; tensors that are not sharded are only moved.
    """
    if isinstance(value, Mapping):
        kind: Any = type(value)
        return kind((key, whole(entry)) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(whole(entry) for entry in value)
    if isinstance(value, Tensor):
        return (value.full_tensor() if is_sharded(value) else value).detach().cpu()
    return value


def shard_like(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Divide whole tensors as a model's of the same name and shape are.

    Args:
        state (Mapping[str, Tensor]): Whole tensors, the same in every process.
        own (Mapping[str, Tensor]): The model's, sharded or not.
    """
    return {name: shard_as(value, own[name]) for name, value in state.items()}


def shard_as(value: Tensor, like: Tensor) -> Tensor:
    """Divide a whole tensor as another of its shape is; without that, give it back."""
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(device=like.device)
    # Each process has the whole and takes its part: nothing is sent.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def is_sharded(value: Tensor) -> bool:
    """Tell whether a tensor is divided over processes (a ``DTensor``)."""
    return hasattr(value, "full_tensor")
