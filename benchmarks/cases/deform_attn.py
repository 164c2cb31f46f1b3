"""Multi-scale deformable attention, next to the function that mmcv has for processors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.options import Options
from mmbeit3.ops import multi_scale_deformable_attn

# (maps that are sampled, number of queries, heads, width of a head), at a crop of 512 pixels
LAYERS = {
    "pixel decoder": ((64, 32, 16), 64**2 + 32**2 + 16**2, 8, 32),
    "extractor": ((32,), 64**2 + 32**2 + 16**2, 12, 32),
    "injector": ((64, 32, 16), 32**2, 12, 32),
}
NUM_POINTS = 4


def deform_attn(options: Options) -> Case:
    """Forward, and forward with backward, of the three places that use the operator."""
    candidates, comparisons = [], []
    for layer in LAYERS:
        for backward in (True, False):
            work = f"{layer}, {'forward + backward' if backward else 'forward'}"
            names = [f"{work}: {who}" for who in ("mmbeit3", "mmcv")]
            arguments = dict(layer=layer, backward=backward, device=options.device)
            candidates += [
                Candidate(name, build, arguments | dict(ours=ours))
                for name, ours in zip(names, (True, False), strict=True)
            ]
            speed = 1.2 if backward else None
            comparisons.append(Comparison(*names, speed=speed, tolerance=1e-5))
    title = "deformable attention of a segmentor at a crop of 512 pixels, float32"
    return Case("deform-attn", title, tuple(candidates), tuple(comparisons))


def build(layer: str, backward: bool, device: str, ours: bool) -> Callable[[], list[Tensor]]:
    """Make a call that returns the output, or the three gradients."""
    sides, queries, heads, dim = LAYERS[layer]
    torch.manual_seed(0)
    value = torch.randn(1, sum(side**2 for side in sides), heads, dim)
    locations = torch.rand(1, queries, heads, len(sides), NUM_POINTS, 2)
    weights = torch.rand(1, queries, heads, len(sides), NUM_POINTS)
    inputs = [x.to(device).requires_grad_(backward) for x in (value, locations, weights)]
    shapes = torch.tensor([(side, side) for side in sides])
    run = multi_scale_deformable_attn if ours else theirs()
    grad = torch.randn(1, queries, heads * dim).to(device)

    def call() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            output = run(inputs[0], shapes, *inputs[1:])
        return list(torch.autograd.grad(output, inputs, grad)) if backward else [output]

    return call


def theirs() -> Callable[..., Tensor]:
    """Return mmcv's own function, before which this project puts its own."""
    module = import_module("mmcv.ops.multi_scale_deform_attn")
    return inspect.unwrap(module.multi_scale_deformable_attn_pytorch)
