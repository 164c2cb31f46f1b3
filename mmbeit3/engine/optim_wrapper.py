"""Mixed precision where the device has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmbeit3.ops.cpu.autocast import rules_of_a_gpu
from mmbeit3.ops.cpu.processor import bfloat16_obstacle
from mmbeit3.registry import OPTIM_WRAPPERS

DEVICES = ("cuda", "npu", "mlu", "musa")  # those that mmengine's AmpOptimWrapper accepts


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """As mmengine's, and on a CPU bfloat16 where it is faster, else float32, which one line says.

    mmengine's refuses a CPU, so that a recipe would not even start there. Calling the class returns
    an ``OptimWrapper`` without loss scale in that case.

    Args:
        loss_scale (float | str | dict): Scale of the loss, or 'dynamic'. Defaults to 1.0, as
            bfloat16 has float32's range.
        dtype (str): Type of the matrix products. Defaults to 'bfloat16'.
        use_fsdp (bool): As mmengine's. Defaults to False.
        **kwargs: Arguments of ``OptimWrapper``.
    """

    def __new__(
        cls,
        loss_scale: float | str | dict = 1.0,
        dtype: str = "bfloat16",
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> OptimWrapper:
        """Make a wrapper of the precision that the device has."""
        device = get_device()
        if device in DEVICES:
            return MMEngineAmpOptimWrapper(loss_scale, dtype, use_fsdp, **kwargs)
        obstacle = no_mixed_precision(dtype, device)
        if obstacle is None:
            return _CPUAmpOptimWrapper(**kwargs)
        print_log(f"{obstacle}: training in float32 on {device}", "current")
        return OptimWrapper(**kwargs)


def no_mixed_precision(dtype: str, device: str) -> str | None:
    """Why a device without a GPU's types trains in float32; None where it has the type."""
    if device == "cpu" and dtype == "bfloat16":
        return bfloat16_obstacle()
    return f"no GPU for mixed precision in {dtype}"


class _CPUAmpOptimWrapper(OptimWrapper):
    """Computes losses under a CPU's autocast by a GPU's rules: the CPU's own cost accuracy."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with (
            super().optim_context(model),
            torch.autocast("cpu", torch.bfloat16),
            rules_of_a_gpu(),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute gradients; layers that are computed again for them follow the same rules."""
        with rules_of_a_gpu():
            super().backward(loss, **kwargs)
