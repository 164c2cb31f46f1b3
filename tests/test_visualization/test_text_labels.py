"""Texts on colored grounds: where they go, and when they are left out."""

from __future__ import annotations

import numpy as np
import pytest

from mmbeit3.visualization.text_labels import Chips, chip, display_names, font_size, label_text

RED = (0, 0, 255)
SIZE = font_size(480, 640)


@pytest.fixture
def picture() -> np.ndarray:
    return np.full((480, 640, 3), 128, np.uint8)


def changed(picture: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture != 128).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_first_free_place(picture):
    chips = Chips(picture)
    places = [(10, 20), (300, 200)]
    height, width = chip("name", SIZE, RED).shape[:2]
    assert chips.put("name", RED, lambda *size: places if size == (height, width) else [])
    assert changed(picture) == (10, 20, 10 + width, 20 + height)
    assert chips.put("name", RED, lambda *_: places)
    assert (picture[200, 300] == RED).all()
    before = picture.copy()
    assert not chips.put("name", RED, lambda *_: places)
    np.testing.assert_array_equal(picture, before)


def test_chips_may_touch(picture):
    chips = Chips(picture)
    height, width = chip("name", SIZE, RED).shape[:2]
    for place in [(50, 50), (50 + width, 50), (50, 50 + height), (50 - width, 50)]:
        assert chips.put("name", RED, lambda *_, place=place: [place])
    assert not chips.put("name", RED, lambda *_: [(51, 49 + 2 * height)])


@pytest.mark.parametrize(("x", "left"), [(-20, 0), (639, None)])
def test_moved_inside_from_the_sides(picture, x, left):
    width = chip("name", SIZE, RED).shape[1]
    assert Chips(picture).put("name", RED, lambda *_: [(x, 100)])
    assert changed(picture)[0] == (640 - width if left is None else left)


@pytest.mark.parametrize("y", [-1, 479])
def test_not_moved_up_or_down(picture, y):
    assert not Chips(picture).put("name", RED, lambda *_: [(100, y)])


def test_too_wide_for_the_picture(picture):
    assert not Chips(picture[:, :20]).put("a long name", RED, lambda *_: [(0, 100)])


def test_ink_can_be_read():
    for color, ink in [((255, 255, 255), 0), ((0, 255, 255), 0), ((90, 0, 0), 255)]:
        ground = chip("H", 40, color)
        distance = np.abs(ground.astype(int) - ink).max(axis=2)
        assert distance.min() <= 5
        assert (ground == color).all(axis=2).any()


@pytest.mark.parametrize(
    ("score", "text"), [(0.5, "0.50"), (1, "1.00"), (0.996, "1.00"), (0.05, "0.05"), (None, None)]
)
def test_scores_have_two_digits(score, text):
    assert label_text("cat", score) == ("cat" if text is None else f"cat\u200e {text}")


def test_a_name_is_cut_before_it_hides_the_picture():
    short, long = display_names(["x" * 32, "x" * 33])
    assert short == "x" * 32
    assert long == "x" * 31 + "\u2026"


def test_numbers_of_classes_are_names():
    assert display_names([1, 2]) == ("1", "2")
