"""Run-length codes, byte for byte those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmbeit3.ops import encode_masks


def pycocotools_codes(masks: np.ndarray) -> list[dict]:
    return [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


@pytest.mark.parametrize("density", [0.02, 0.5, 0.98])
def test_equals_pycocotools(density: float) -> None:
    """Small masks, so that many reach from the top to the bottom or to the last pixel."""
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 7), (7, 1), (4, 5), (13, 9), (64, 48)):
        masks = generator.random((40, height, width)) < density
        masks[20:, : height // 3] = False
        masks[30:, :, 2 * width // 3 :] = False
        assert encode_masks(masks) == pycocotools_codes(masks)


def test_runs_over_several_columns() -> None:
    masks = np.zeros((3, 6, 8), dtype=bool)
    masks[0, :, 2:5] = True
    masks[1, 3:, 2] = masks[1, :2, 3] = True  # touches the bottom, and goes on at the top
    masks[2, 3:5, 2] = masks[2, :2, 3] = True
    codes = encode_masks(masks)
    assert codes == pycocotools_codes(masks)
    assert coco_mask.area(codes[1]) == 5


def test_empty_and_full_masks() -> None:
    masks = np.stack((np.zeros((5, 4), dtype=bool), np.ones((5, 4), dtype=bool)))
    assert encode_masks(masks) == pycocotools_codes(masks)
    assert encode_masks(masks[:0]) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_numbers(dtype: type) -> None:
    masks = np.random.default_rng(1).random((5, 9, 7)) < 0.3
    assert encode_masks(masks.astype(dtype) * 3) == pycocotools_codes(masks)


def test_views() -> None:
    masks = np.random.default_rng(2).random((20, 30, 9)) < 0.4
    views = masks.transpose(2, 1, 0)[::2, 3:-2]
    assert encode_masks(views) == pycocotools_codes(views)
