"""Mixed precision where the device has it."""

from __future__ import annotations

from typing import Any

from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper

from mmbeit3.registry import OPTIM_WRAPPERS

DEVICES = ("cuda", "npu", "mlu", "musa")  # those that mmengine's AmpOptimWrapper accepts


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """As mmengine's, but float32 on devices without mixed precision, which one line says.

    mmengine's refuses a CPU, so that a recipe would not even start there. Calling the class returns
    mmengine's ``OptimWrapper`` in that case.

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
        if get_device() in DEVICES:
            return MMEngineAmpOptimWrapper(loss_scale, dtype, use_fsdp, **kwargs)
        print_log(f"no GPU for mixed precision: training in float32 on {get_device()}", "current")
        return OptimWrapper(**kwargs)
