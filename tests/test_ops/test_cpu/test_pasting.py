"""Pasting against mmdet's, which computes the float values that a threshold then cuts."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from torch import Tensor

from mmbeit3.ops import paste_masks
from mmbeit3.ops.cpu import pasting

HEIGHT, WIDTH = 120, 160


def mmdet_values(masks: Tensor, boxes: Tensor) -> Tensor:
    """Values (N, HEIGHT, WIDTH) as FCNMaskHead gets them on the CPU, -1 where it writes none."""
    values = masks.new_full((len(masks), HEIGHT, WIDTH), -1)
    for image, mask, box in zip(values, masks, boxes, strict=True):
        pasted, (rows, columns) = _do_paste_mask(mask[None, None], box[None], HEIGHT, WIDTH)
        image[rows, columns] = pasted[0]
    return values


def random_masks(number: int, size: tuple[int, int] = (28, 28)) -> tuple[Tensor, Tensor]:
    """Masks with boxes from a pixel to beyond the image, many across its border."""
    generator = torch.Generator().manual_seed(number)
    centers = torch.rand(number, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    extents = (torch.rand(number, 2, generator=generator) * 8).exp2()
    boxes = torch.cat((centers - extents / 2, centers + extents / 2), dim=1)
    boxes[::7] = boxes[::7].round()
    boxes[:, 2:] = boxes[:, 2:].clamp(min=0)
    return torch.rand(number, *size, generator=generator), boxes


def assert_equal_but_at_the_threshold(masks: Tensor, values: Tensor, threshold: float) -> None:
    clear = (values - threshold).abs() > 1e-6
    assert torch.equal(masks[clear], values[clear] >= threshold)
    assert clear.float().mean() > 0.999 and masks.any()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_equals_mmdet(threshold: float) -> None:
    masks, boxes = random_masks(150)
    pasted = paste_masks(masks, boxes, HEIGHT, WIDTH, threshold)
    assert pasted.shape == (150, HEIGHT, WIDTH) and pasted.dtype == torch.bool
    values = mmdet_values(masks, boxes)
    if threshold:
        assert_equal_but_at_the_threshold(pasted, values, threshold)
    else:  # all that is written
        assert torch.equal(pasted, values >= 0)


def test_masks_that_are_not_square() -> None:
    masks, boxes = random_masks(30, (14, 20))
    pasted = paste_masks(masks, boxes, HEIGHT, WIDTH)
    assert_equal_but_at_the_threshold(pasted, mmdet_values(masks, boxes), 0.5)


def test_boxes_without_extent() -> None:
    boxes = torch.tensor([[20.0, 30, 20, 50], [20.25, 30, 60, 30], [9.5, 9.5, 9.5, 9.5]])
    masks = torch.ones(3, 28, 28)
    pasted = paste_masks(masks, boxes, HEIGHT, WIDTH)
    assert torch.equal(pasted, mmdet_values(masks, boxes) >= 0.5)


def test_boxes_outside_of_the_image() -> None:
    boxes = torch.tensor(
        [
            [-50.0, 10, -10, 30],
            [10, -50, 30, -10],
            [WIDTH + 9, 10, WIDTH + 50, 30],
            [10, HEIGHT + 9, 30, HEIGHT + 50],
            [60, 40, 20, 10],  # turned round
            [float("nan"), 10, 30, 40],
        ]
    )
    assert not paste_masks(torch.ones(6, 28, 28), boxes, HEIGHT, WIDTH).any()


def test_probabilities_for_a_negative_threshold() -> None:
    masks, boxes = random_masks(20)
    pasted = paste_masks(masks, boxes, HEIGHT, WIDTH, -1)
    assert pasted.dtype == torch.uint8 and pasted.max() > 200
    expected = (mmdet_values(masks, boxes).clamp(min=0) * 255).to(torch.uint8)
    assert (pasted.int() - expected.int()).abs().max() <= 1


def test_no_masks() -> None:
    pasted = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), HEIGHT, WIDTH)
    assert pasted.shape == (0, HEIGHT, WIDTH) and pasted.dtype == torch.bool


@pytest.mark.parametrize("pixels", [1, 1000])
def test_memory_is_bounded_without_a_trace_in_the_result(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, boxes = random_masks(30)
    whole = paste_masks(masks, boxes, HEIGHT, WIDTH)
    monkeypatch.setattr(pasting, "_MAX_PIXELS", pixels)
    assert torch.equal(paste_masks(masks, boxes, HEIGHT, WIDTH), whole)


def test_groups_as_a_gpu_computes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, boxes = random_masks(60)
    expected = paste_masks(masks, boxes, HEIGHT, WIDTH)
    size, fill, sizes, groups = pasting._computed_size, pasting._fill, [], []

    def on_gpu(window: list[int], device: torch.device) -> tuple[int, int]:
        sizes.append(size(window, torch.device("cuda")))
        return sizes[-1]

    def counting(targets: list[Tensor], *args: object) -> None:
        groups.append(len(targets))
        fill(targets, *args)

    monkeypatch.setattr(pasting, "_computed_size", on_gpu)
    monkeypatch.setattr(pasting, "_fill", counting)
    assert torch.equal(paste_masks(masks, boxes, HEIGHT, WIDTH), expected)
    assert len(groups) == len(set(sizes)) < len(masks)
