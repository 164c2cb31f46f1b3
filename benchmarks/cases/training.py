"""A training step of the tower: ways to write attention, and ways to save memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.cases.tower import count, limit, make_tower, matrices
from benchmarks.options import Options
from benchmarks.plain import make_plain

PLAIN = "plain: naive attention"
OURS = "mmbeit3"
CHECKPOINT = "mmbeit3, with_cp=True (torch)"
OFFLOAD = 'mmbeit3, with_cp="offload" (fairscale)'


def training(options: Options) -> Case:
    """Forward and backward pass of the tower with windows and global layers, one image."""
    size = options.size
    base = dict(arch=options.arch, size=size, device=options.device)
    flops = 3 * count(options.arch, size, "windows")  # the backward pass has two products for one
    kinds = {PLAIN: (True, False), OURS: (False, False)}
    kinds |= {CHECKPOINT: (False, True), OFFLOAD: (False, "offload")}
    half = {f"{name}, bfloat16": kinds[name] for name in (OURS, CHECKPOINT)}
    on_gpu = options.device != "cpu"

    def candidate(name: str, plain: bool, with_cp: bool | str, dtype: str) -> Candidate:
        arguments = base | dict(plain=plain, with_cp=with_cp, dtype=dtype)
        return Candidate(name, build, arguments, flops=flops, limit=limit(dtype), items=1)

    return Case(
        "training",
        f"{options.arch} tower, forward and backward, one image of {size} x {size}, float32"
        f"{' and bfloat16' if on_gpu else ''}",
        (
            *(matrices(dtype, **base) for dtype in ("float32", *(["bfloat16"] if on_gpu else []))),
            *(candidate(name, *kind, "float32") for name, kind in kinds.items()),
            *(candidate(name, *kind, "bfloat16") for name, kind in half.items() if on_gpu),
        ),
        tuple(Comparison(name, PLAIN, tolerance=1e-4) for name in (OURS, CHECKPOINT, OFFLOAD)),
    )


def build(
    arch: str,
    size: int,
    device: str,
    plain: bool,
    with_cp: bool | str,
    dtype: str = "float32",
) -> Callable[[], Tensor]:
    """Make a step without optimizer; it returns the gradient of the first layer's qkv weights."""
    model = make_tower(arch, size, with_cp=with_cp).to(device).train()
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    kind = torch.device(device).type
    if plain:
        make_plain(model)

    def call() -> Tensor:
        model.zero_grad(set_to_none=True)
        with torch.autocast(kind, getattr(torch, dtype), enabled=dtype != "float32"):
            loss = model(x)[0].square().mean()
        loss.backward()
        return model.layers[0].attn.qkv.weight.grad

    return call
