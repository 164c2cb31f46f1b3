"""Large products of matrices and copies of memory: the rates that others are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.benchmark import Candidate, Case
from benchmarks.options import Options

DTYPES = ("float32", "bfloat16")


def matrices(options: Options) -> Case:
    """Square products of random matrices, and a copy."""
    side = 8192 if options.device != "cpu" else 1024
    products = [
        Candidate(
            f"{side} x {side} x {side}, {dtype}",
            build_product,
            dict(side=side, device=options.device, dtype=dtype),
            flops=2.0 * side**3,
            memory=False,
        )
        for dtype in DTYPES
    ]
    copied = 4 * side**2  # bytes of a matrix in float32
    copy = Candidate(
        f"copy of {copied / 2**20:.0f} MiB",
        build_copy,
        dict(side=side, device=options.device),
        memory=False,
    )
    return Case("matrices", "products of matrices, copies", (*products, copy))


def build_product(side: int, device: str, dtype: str) -> Callable[[], None]:
    """Make a call of the product of two square matrices."""
    one, two = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in "12")
    out = torch.empty_like(one)

    def call() -> None:
        torch.mm(one, two, out=out)

    return call


def build_copy(side: int, device: str) -> Callable[[], None]:
    """Make a call that copies a square matrix in float32."""
    source = torch.randn(side, side, device=device)
    target = torch.empty_like(source)

    def call() -> None:
        target.copy_(source)

    return call
