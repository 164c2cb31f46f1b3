"""Outlines of bitmaps are exact, next to those that the COCO API fills."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmbeit3.datasets.label_formats.labels import LabeledImage, LabeledObject
from mmbeit3.datasets.label_formats.outlines import (
    ellipse,
    encode,
    one_ring,
    outlines,
    rings_of,
    signed_area,
)


def filled(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    codes = mask_api.frPyObjects([ring.astype(float).ravel().tolist()], height, width)
    return mask_api.decode(mask_api.merge(codes)).astype(bool)


@pytest.mark.parametrize("seed", range(20))
def test_bitmaps_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 30, 2).tolist()
    mask = random.random((height, width)) > random.random()
    rings = rings_of(mask)
    assert sum(map(signed_area, rings)) == mask.sum()
    again = np.zeros_like(mask)
    for ring in rings:
        again ^= filled(ring, height, width)
    assert np.array_equal(again, mask)
    if mask.any():
        image = LabeledImage("a", width, height)
        parts = outlines(LabeledObject("x", (0, 0, 1, 1), encode(mask)), image)
        assert np.array_equal(filled(one_ring(parts), height, width), mask)


def test_overlapping_polygons_are_their_union() -> None:
    squares = [[2.0, 2, 12, 2, 12, 12, 2, 12], [6.0, 6, 16, 6, 16, 16, 6, 16]]
    image = LabeledImage("a", 20, 20)
    parts = outlines(LabeledObject("x", (2, 2, 16, 16), squares), image)
    assert len(parts) == 1
    assert filled(one_ring(parts), 20, 20).sum() == 100 + 100 - 36


def test_polygons_of_either_direction_are_joined() -> None:
    squares = [[2.0, 2, 6, 2, 6, 6, 2, 6], [10.0, 2, 10, 6, 14, 6, 14, 2]]
    image = LabeledImage("a", 20, 20)
    ring = one_ring(outlines(LabeledObject("x", (2, 2, 14, 6), squares), image))
    assert abs(signed_area(ring)) == 32
    assert filled(ring, 20, 20).sum() == 32


def test_ellipses_have_their_area() -> None:
    assert abs(signed_area(ellipse((50, 40), (30, 10), 30))) == pytest.approx(np.pi * 300)
