from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmbeit3.datasets.checks.rle import CHUNK, read_codes


def _codes(number: int) -> tuple[list[str], list[int]]:
    """Codes of masks of many kinds, by the COCO API, and height times width of each."""
    rng = np.random.default_rng(0)
    codes, areas = [], []
    for index in range(number):
        height, width = rng.integers(1, 60, 2)
        mask = (rng.random((height, width)) < rng.choice([0, 0.05, 0.5, 1])).astype(np.uint8)
        if index % 2:
            mask[height // 3 :, width // 3 :] = 1
        codes.append(mask_api.encode(np.asfortranarray(mask))["counts"].decode())
        areas.append(int(height * width))
    return codes, areas


def test_codes_of_the_coco_api_pass() -> None:
    codes, areas = _codes(3 * CHUNK + 5)
    for some in (codes, [code.encode() for code in codes], []):
        problems, pixels = read_codes(some, areas)
        assert problems == {}
        masks = [
            {"size": [area, 1], "counts": code} for area, code in zip(areas, some, strict=False)
        ]
        assert pixels.tolist() == [mask_api.area(mask) for mask in masks]


def test_large_masks_pass() -> None:
    for counts in ([2**30], [0, 2**30], [3, 2**29, 2**28, 2**28 - 3], [1, 2**30 - 1]):
        code = mask_api.frPyObjects({"size": [2**15, 2**15], "counts": counts}, 2**15, 2**15)
        problems, pixels = read_codes([code["counts"]], [2**30])
        assert problems == {}, counts
        assert pixels == [sum(counts[1::2])]


def test_the_codes_of_other_sizes_do_not() -> None:
    codes, areas = _codes(300)
    found, _ = read_codes(codes, [area + 1 for area in areas])
    assert list(found) == list(range(300))
    assert found[7] == f"cover {areas[7]} pixels, expected {areas[7] + 1}"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "are empty"),
        ("52203\x00", "hold a character that does not belong"),
        ("é", "hold a character that does not belong"),
        ("\ud800", "hold a character that does not belong"),
        ("5o", "end in the middle of a number"),
        ("O", "hold a run of negative length"),
        ("1O", "hold a run of negative length"),
        ("1111O", "cover 5 pixels, expected 9"),  # 1, 1, 1, 1 + 1 and 1 - 1
        ("111M", "hold a run of negative length"),  # 1 - 3
        ("oooooooooo1", "hold a run of negative length, or one beyond"),
    ],
)
def test_what_is_wrong_is_said_beside_good_codes(code: str, problem: str) -> None:
    codes, areas = _codes(4)
    found, pixels = read_codes([*codes[:2], code, *codes[2:]], [*areas[:2], 9, *areas[2:]])
    assert list(found) == [2]
    assert found[2].startswith(problem)
    assert pixels[2] == 0 < min(areas)
