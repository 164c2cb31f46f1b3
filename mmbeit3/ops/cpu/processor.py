"""What this machine's processor multiplies, and by which library.

torch hands matrix products on the CPU to oneDNN where oneDNN has a kernel for the processor, which
``ONEDNN_MAX_CPU_ISA`` in the environment can lower; else to kernels of its own. For bfloat16 the
kinds of processor differ: with instructions for it (AVX-512 BF16, AMX, Arm's) oneDNN is faster than
in float32, with AVX-512 alone it emulates them, and below it has no kernel at all.
"""

from __future__ import annotations

import os
import platform
from functools import cache

import torch

# Values of ONEDNN_MAX_CPU_ISA that leave out the instructions for bfloat16 products of x86.
_ISA_WITHOUT_BFLOAT16 = frozenset(
    ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
)
#: The environment that lowers what oneDNN uses; the first one set counts.
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@cache
def onednn_dtypes() -> frozenset[torch.dtype]:
    """Types of float32 and bfloat16 in which oneDNN's linear layer works here, found by trying."""
    # The operator is not part of torch's stable interface: a torch without it loses speed only.
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return frozenset()
    return frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _works(dtype))


def _works(dtype: torch.dtype) -> bool:
    ones = torch.ones(8, 8, dtype=dtype, device="cpu")
    try:
        found = torch.ops.mkldnn._linear_pointwise(ones, ones, ones[0], "gelu", [], "none")
    except RuntimeError:  # no kernel for this processor
        return False
    return bool((found == 9).all())  # gelu(9) is 9 in both types


@cache
def bfloat16_obstacle() -> str | None:
    """Why bfloat16 products on the CPU are slower than float32 here; None where they are faster."""
    name, limit = next(
        ((name, os.environ[name]) for name in ISA_VARIABLES if os.environ.get(name)), ("", "")
    )
    if limit.upper() in _ISA_WITHOUT_BFLOAT16:
        return f"under {name}={limit} this processor has no bfloat16 instructions"
    if not _has_bfloat16_instructions():
        return "this processor has no bfloat16 instructions"
    if torch.bfloat16 not in onednn_dtypes():
        return "this torch does not use the bfloat16 instructions of the processor"
    return None


@cache
def int8_obstacle() -> str | None:
    """Why products of 8-bit integers on the CPU are of no use here; None where they are.

    Processors without instructions for them (AVX-512 VNNI, AVX-VNNI, AMX) add pairs of products in
    16 bits, which overflow. Found by trying, which leaves no kind of processor out.
    """
    if not _is_x86():
        return "int8 is for x86 processors: on others nobody has measured it"
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return "this torch has no products of 8-bit integers by oneDNN"
    inputs, weight = torch.full((8, 64), 255, dtype=torch.uint8), torch.full((8, 64), 127)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight.to(torch.int8), None)
        found = torch.ops.onednn.qlinear_pointwise(
            inputs, 1.0, 0, packed, torch.ones(8), None, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
    except RuntimeError:
        found = torch.zeros(1)
    if bool((found == 64 * 255 * 127).all()):
        return None
    limits = [f"{name}={os.environ[name]}" for name in ISA_VARIABLES if os.environ.get(name)]
    limit = f"under {limits[0]} " if limits else ""
    return f"{limit}this processor has no instructions for products of 8-bit integers"


def has_amx() -> bool:
    """Tell whether the processor multiplies by tiles in bfloat16, as Intel's from 2023 on do."""
    query = getattr(torch.cpu, "_is_amx_tile_supported", None)  # not stable interface
    return query is not None and bool(query())


def _has_bfloat16_instructions() -> bool:
    if not _is_x86():
        query = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return query is not None and bool(query())
    query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if query is None:  # not stable interface either: what oneDNN can must do
        return torch.bfloat16 in onednn_dtypes()
    return bool(query()) or has_amx()


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
