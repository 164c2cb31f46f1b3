"""Operators give on a GPU what they give on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

import mmbeit3  # noqa: F401  before mmcv.ops
from mmbeit3.models.layers import Attention, DeformableAttention, Grid, reference_points
from mmbeit3.models.multimodal.caption_loss import caption_loss
from mmbeit3.ops import multi_scale_deformable_attn, paste_masks, soft_nms

#: Largest difference by the largest value: of sums in another order, and of inputs rounded to 8
#: bits, of which a product has one error and a result another.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def draws(*shape: int, seed: int = 0, spread: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    make = torch.rand if spread else torch.randn
    return make(shape, generator=generator)


def deformable() -> tuple[Callable, list[Any]]:
    sizes = [(9, 7), (5, 4), (2, 3)]
    value = draws(2, sum(h * w for h, w in sizes), 3, 8)
    places = draws(2, 11, 3, len(sizes), 4, 2, seed=1, spread=True) * 1.2 - 0.1
    weights = draws(2, 11, 3, len(sizes), 4, seed=2, spread=True)
    return multi_scale_deformable_attn, [value, sizes, places, weights]


def deformable_layer() -> tuple[Callable, list[Any]]:
    torch.manual_seed(0)
    layer = DeformableAttention(24, 3, 2)
    maps = [Grid(6, 8, 8), Grid(3, 4, 16)]

    def run(query: Tensor, value: Tensor) -> Tensor:
        points = reference_points(maps, maps, query.device)
        return layer.to(query.device, query.dtype)(query, value, points, maps)

    return run, [draws(2, 60, 24), draws(2, 60, 24, seed=1)]


def attention(**of_layer: int) -> tuple[Callable, list[Any]]:
    torch.manual_seed(0)
    layer = Attention(32, 4, **of_layer)
    coords = torch.stack([torch.arange(20) // 5, torch.arange(20) % 5])

    def run(x: Tensor) -> Tensor:
        layer.to(x.device, x.dtype)
        return layer(x, ((2, 8), (1, 4)) if not of_layer else ((1, 20),), coords)

    return run, [draws(2, 20, 32)]


def shared_attention() -> tuple[Callable, list[Any]]:
    layer = Attention(32, 4)

    def run(q: Tensor, k: Tensor, v: Tensor, own: Tensor) -> Tensor:
        seen = torch.ones(2, 2, dtype=torch.bool, device=q.device).tril()
        return layer.attend_shared(q, (k, v), (own, own), seen)

    shared = [draws(2, 4, 9, 8, seed=seed) for seed in (1, 2)]
    return run, [draws(6, 4, 2, 8), *shared, draws(6, 4, 2, 8, seed=3)]


def guesses() -> tuple[Callable, list[Any]]:
    def run(logits: Tensor, targets: Tensor) -> Tensor:
        return caption_loss(logits, targets, 0.1, 0.2)

    return run, [draws(30, 50), torch.arange(30)]


def roi_align() -> tuple[Callable, list[Any]]:
    from mmcv.ops import RoIAlign

    corners = draws(7, 2, 2, seed=1, spread=True).sort(1).values * 200
    index = torch.arange(7.0)[:, None] % 2
    rois = torch.cat([index, corners.flatten(1)], 1)

    def run(feature: Tensor) -> Tensor:
        return RoIAlign(7, 1 / 8, 2)(feature, rois.to(feature.device))

    return run, [draws(2, 5, 25, 25)]


OPERATORS = {
    "deformable attention": deformable,
    "deformable layer": deformable_layer,
    "attention in windows": attention,
    "attention with positions": lambda: attention(rel_pos_size=5),
    "attention of captions": shared_attention,
    "caption loss": guesses,
    "RoIAlign": roi_align,
}


def results(run: Callable, inputs: list[Any], device: str, dtype: torch.dtype) -> list[Tensor]:
    """The output and the gradients of all inputs of that type, in float32 on the CPU."""

    def moved(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        x = x.to(device, dtype if x.is_floating_point() else x.dtype)
        return x.requires_grad_() if x.is_floating_point() else x

    inputs = tree_map(moved, inputs)
    trained = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor) and x.requires_grad]
    output = run(*inputs)
    assert output.device.type == torch.device(device).type
    weights = draws(*output.shape, seed=9).to(device, output.dtype)
    grads = torch.autograd.grad((output * weights).sum(), trained)
    return [x.detach().cpu().float() for x in (output, *grads)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_output_and_gradients_are_those_of_the_cpu(
    name: str, dtype: torch.dtype, device: str
) -> None:
    run, inputs = OPERATORS[name]()
    found = results(run, inputs, device, dtype)
    if dtype == torch.bfloat16:  # compared with float32 of the same, rounded, inputs
        inputs = tree_map(
            lambda x: x.to(dtype).float() if isinstance(x, Tensor) and x.is_floating_point() else x,
            inputs,
        )
    want = results(run, inputs, "cpu", torch.float32)
    for ours, theirs in zip(found, want, strict=True):
        assert (ours - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max()


@pytest.mark.parametrize("method", ["linear", "gaussian", "naive"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_soft_nms_keeps_the_same_boxes(method: str, dtype: torch.dtype, device: str) -> None:
    corners = draws(300, 2, spread=True) * 100
    sizes = draws(300, 2, seed=1, spread=True) * 40 + 5
    boxes = torch.cat([corners, corners + sizes], 1).to(dtype)
    scores = draws(300, seed=2, spread=True).to(dtype)
    labels = torch.arange(300) % 5
    options = dict(method=method, iou_threshold=0.5, min_score=0.05, max_per_img=60)
    want = soft_nms(boxes, scores, labels, **options)
    found = soft_nms(*(x.to(device) for x in (boxes, scores, labels)), **options)
    assert [x.device.type for x in found] == ["cuda"] * 3
    dets, classes, keep = (x.cpu() for x in found)
    if method == "gaussian":  # exp() rounds as the device has it, and may turn two round
        torch.testing.assert_close(dets[:, 4], want[0][:, 4], atol=1e-2, rtol=0)
    else:
        assert torch.equal(keep, want[2]) and torch.equal(classes, want[1])
        torch.testing.assert_close(dets, want[0], atol=1e-6, rtol=1e-6)


def test_nms_keeps_the_same_boxes(device: str) -> None:
    from mmcv.ops import batched_nms

    corners = draws(200, 2, spread=True) * 60
    boxes = torch.cat([corners, corners + 20], 1)
    scores, labels = draws(200, seed=1, spread=True), torch.arange(200) % 3
    cfg = dict(type="nms", iou_threshold=0.5)
    want = batched_nms(boxes, scores, labels, dict(cfg))[1]
    found = batched_nms(*(x.to(device) for x in (boxes, scores, labels)), dict(cfg))[1]
    assert torch.equal(found.cpu(), want)


def test_masks_are_pasted_alike(device: str) -> None:
    masks = draws(20, 28, 28, spread=True)
    corners = draws(20, 2, seed=1) * 60 + 30
    boxes = torch.cat([corners, corners + draws(20, 2, seed=2, spread=True) * 80 + 1], 1)
    want = paste_masks(masks, boxes, 120, 140)
    found = paste_masks(masks.to(device), boxes.to(device), 120, 140)
    assert found.is_cuda
    assert (found.cpu() != want).float().mean() < 1e-4
