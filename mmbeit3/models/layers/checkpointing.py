"""Activation checkpointing: layers are computed again in the backward pass, to save memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmbeit3.utils import InputError


def check_with_cp(with_cp: bool | str) -> None:
    """Raise an InputError unless ``with_cp`` is a value that :func:`recomputed` takes."""
    if with_cp not in (False, True, "offload"):
        raise InputError(f"with_cp is {with_cp!r}; expected False, True or 'offload'.")


def recomputed(module: Callable[..., Tensor], *args: Any, offload: bool = False) -> Tensor:
    """Run a module, keeping its inputs only; the rest is computed again when gradients flow.

    Args:
        module (Callable): A module or a function; what to run.
        *args: Its arguments.
        offload (bool): Keep the inputs in the CPU's memory, by fairscale. Defaults to False.

    Returns:
        Tensor: What the module returns.
    """
    if not offload:
        return checkpoint(module, *args, use_reentrant=False)
    from fairscale.nn.checkpoint import checkpoint_wrapper  # takes a second to import

    # The wrapper is made for this call alone: kept, it would be copied with the model (EMA does
    # that) and go on calling the original.
    return checkpoint_wrapper(_InAutocast(module, args[0].device.type), offload_to_cpu=True)(*args)


class _InAutocast(nn.Module):
    """Runs a module in the autocast mode that it was made in.

    fairscale computes again under CUDA's default, float16, whatever the forward pass used.
    """

    def __init__(self, module: Callable[..., Tensor], device: str) -> None:
        super().__init__()
        self.module = module
        devices = dict.fromkeys((device, "cpu"))
        self.modes = [
            dict(
                device_type=name,
                dtype=torch.get_autocast_dtype(name),
                enabled=torch.is_autocast_enabled(name),
            )
            for name in devices
        ]

    def forward(self, *args: Any) -> Tensor:
        with ExitStack() as stack:
            for mode in self.modes:
                stack.enter_context(torch.autocast(**mode))
            return self.module(*args)
