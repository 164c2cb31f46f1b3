"""Deltas to boxes and back, held to detectron2's formulas in float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmbeit3.models.task_modules import DeltaXYWHBBoxCoder


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Boxes (N, 4) moved by deltas (N, 4): growth is limited, shrinking is not."""
    moved = []
    for (dx, dy, dw, dh), (x1, y1, x2, y2) in zip(deltas.tolist(), boxes.tolist(), strict=True):
        width, height = x2 - x1, y2 - y1
        x = (x1 + x2) / 2 + dx / weights[0] * width
        y = (y1 + y2) / 2 + dy / weights[0] * height
        width *= math.exp(min(dw / weights[1], math.log(1000 / 16)))
        height *= math.exp(min(dh / weights[1], math.log(1000 / 16)))
        moved.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return torch.tensor(moved)


def boxes(count: int) -> Tensor:
    places = torch.rand(count, 2) * 800
    return torch.cat([places, places + torch.rand(count, 2) * 500 + 1], 1)


@pytest.mark.parametrize("weights", [(1, 1), (10, 5), (30, 15)])
@pytest.mark.parametrize("spread", [0.3, 3.0, 60.0])
def test_decoded_boxes_are_detectron2s(weights: tuple[float, float], spread: float) -> None:
    torch.manual_seed(0)
    stds = [1 / weight for weight in weights for _ in range(2)]
    coder = DeltaXYWHBBoxCoder(target_stds=stds)
    old, deltas = boxes(200), torch.randn(200, 4) * spread
    found = coder.decode(old, deltas)
    torch.testing.assert_close(found, apply_deltas(deltas, old, weights), rtol=1e-4, atol=1e-2)
    inside = coder.decode(old, deltas, max_shape=(300, 400))
    limits = torch.tensor([400.0, 300, 400, 300])
    assert torch.equal(inside, found.clamp(min=0).minimum(limits))


def test_a_box_shrinks_without_limit_and_grows_within_one() -> None:
    """mmdet stops at 16 / 1000 of the side: an anchor of 512 pixels stays 8 wide."""
    box = torch.tensor([[0.0, 0, 512, 512]])
    small = DeltaXYWHBBoxCoder().decode(box, torch.tensor([[0.0, 0, -6, -6]]))
    assert small[0, 2] - small[0, 0] == pytest.approx(512 * math.exp(-6), rel=1e-3)
    gone = DeltaXYWHBBoxCoder().decode(box, torch.tensor([[0.0, 0, -1e4, -1e4]]))
    assert gone.tolist() == [[256, 256, 256, 256]]
    large = DeltaXYWHBBoxCoder().decode(box, torch.tensor([[0.0, 0, 1e4, 1e4]]))
    assert large[0, 2] - large[0, 0] == pytest.approx(512 * 1000 / 16, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_low_precision_deltas_are_decoded_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(1)
    coder = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    old, deltas = boxes(300), (torch.randn(300, 4) * 3).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = coder.decode(old, deltas, max_shape=(1024, 1024))
        back = coder.encode(old, found.clamp(min=0))
    assert found.dtype == back.dtype == torch.float32
    assert torch.equal(found, coder.decode(old, deltas.float(), max_shape=(1024, 1024)))


def test_targets_lead_back() -> None:
    torch.manual_seed(2)
    coder = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    old, new = boxes(50), boxes(50)
    torch.testing.assert_close(coder.decode(old, coder.encode(old, new)), new, rtol=1e-4, atol=1e-2)


def test_no_boxes() -> None:
    coder = DeltaXYWHBBoxCoder()
    assert coder.decode(torch.zeros(0, 4), torch.zeros(0, 4).bfloat16(), (9, 9)).shape == (0, 4)
