"""Autocast on the CPU with the rules of a GPU: which operators compute in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

HALF_TYPES = (torch.bfloat16, torch.float16)

# Those of torch's list for CUDA (the page "Automatic Mixed Precision package" of its manual) that
# models of mmdet and mmseg call; autocast on the CPU runs them in the type that they are given.
FLOAT32_OPERATORS = (
    "layer_norm",
    "group_norm",
    "softmax.int",
    "log_softmax.int",
    "sum",
    "sum.dim_IntList",
    "cumsum",
    "exp",
    "log",
    "pow.Tensor_Scalar",
    "rsqrt",
    "reciprocal",
    "l1_loss",
    "smooth_l1_loss",
    "mse_loss",
    "nll_loss_nd",
    "binary_cross_entropy_with_logits",
)
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextmanager
def rules_of_a_gpu() -> Iterator[None]:
    """Within, autocast on the CPU computes in float32 what it computes so on a GPU."""
    library = torch.library.Library("aten", "IMPL", "AutocastCPU")
    try:
        for name in FLOAT32_OPERATORS:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, _in_float32(operator))
        yield
    finally:
        library._destroy()


def _in_float32(operator: Callable) -> Callable:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return operator(*map(_as_float32, args), **kwargs)

    return kernel


def _as_float32(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in HALF_TYPES
    return value.float() if is_half else value
