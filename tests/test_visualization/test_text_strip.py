"""Texts below pictures, and pictures side by side."""

from __future__ import annotations

import numpy as np
import pytest

from mmbeit3.visualization.text_strip import add_text, draw_text, side_by_side

WORDS = "a small red circle left of two blue stars on a lawn "


def picture(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 99, np.uint8)


@pytest.mark.parametrize("text", ["one", WORDS * 9, "x" * 900, "größe 猫 مرحبا", "two\nlines"])
@pytest.mark.parametrize("size", [(480, 640), (900, 40), (30, 2000)])
def test_no_letter_of_a_text_is_cut(text: str, size: tuple[int, int]) -> None:
    given = picture(*size)
    found = add_text(given, text)
    height, width = size
    assert (found[:height, :width] == 99).all() and (given == 99).all()
    strip = found[height:]
    ink = strip.min((0, 2)) < 128
    assert ink.any() and not ink[-1]  # the margin of the last letter
    assert found.shape[1] == width or width == 40


def test_more_words_need_more_room() -> None:
    heights = [add_text(picture(480, 640), WORDS * n).shape[0] for n in (1, 4, 8)]
    assert heights == sorted(set(heights))
    assert (
        add_text(picture(480, 640), "a\nb").shape[0]
        == add_text(picture(480, 640), "x" * 70).shape[0]
    )


def test_small_images_are_enlarged_and_kept() -> None:
    image = picture(30, 40)
    assert draw_text(image, "one").shape[1] == 640 and (image == 99).all()


def test_images_side_by_side_are_as_high_as_the_lowest() -> None:
    found = side_by_side([picture(100, 50), picture(200, 300), picture(100, 10)])
    assert found.shape == (100, 50 + 2 + 150 + 2 + 10, 3)
    assert (found[:, 50:52] == 255).all() and (found[:, :50] == 99).all()
    assert side_by_side([picture(1, 1), picture(500, 3)]).shape[0] == 1
