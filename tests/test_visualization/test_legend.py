"""The legend of class maps: which classes it names, in which colors, and that it hides nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mmbeit3.datasets.palette import make_palette
from mmbeit3.visualization.legend import add_legend
from mmbeit3.visualization.overlay import draw_class_map

NAMES = [
    "sky",
    "grass",
    "a bench",
    "\u0434\u043e\u0440\u043e\u0433\u0430",
    "\u0637\u0631\u064a\u0642",
]
COLORS = [color[::-1] for color in make_palette(5)]


def striped(height: int, width: int, labels: list[int], values: int = 90) -> tuple:
    """A gray image, and a map with columns of these labels."""
    columns = np.array(labels, np.uint8)[np.arange(width) * len(labels) // width]
    return np.full((height, width, 3), values, np.uint8), np.tile(columns, (height, 1))


def shown_colors(strip: np.ndarray) -> list[int]:
    """The classes whose colors fill a square in a legend, in reading order."""
    found = []
    for index, color in enumerate(COLORS):
        rows, columns = np.nonzero((strip == color).all(axis=2))
        if len(rows) > 50:
            found.append((rows.min() // 8, columns.min(), index))
    return [index for *_, index in sorted(found)]


@pytest.mark.parametrize(
    ("height", "width", "labels"),
    [
        (480, 640, [0, 1]),
        (100, 73, [4, 2, 3]),
        (75, 100, [3]),
        (600, 6000, [1, 1, 1, 0, 0, 2]),
        (3000, 2000, [2, 4]),
    ],
)
def test_the_classes_present_are_named_below(height: int, width: int, labels: list[int]) -> None:
    image, label_map = striped(height, width, labels)
    plain = draw_class_map(image, label_map, NAMES, COLORS, legend=False)
    picture = draw_class_map(image, label_map, NAMES, COLORS)
    rows, columns = plain.shape[:2]
    assert (picture[:rows, :columns] == plain).all()  # nothing of it is hidden
    strip = picture[rows:]
    assert 0 < len(strip) < rows
    by_size = sorted(set(labels), key=lambda label: (-(label_map == label).sum(), label))
    assert shown_colors(strip) == by_size
    assert (strip < 128).all(axis=2).sum() > 20 * len(by_size)  # the names


def test_pixels_of_no_class_are_not_named() -> None:
    image, label_map = striped(120, 90, [255, 1])
    picture = draw_class_map(image, label_map, NAMES, COLORS)
    assert shown_colors(picture[640:]) == [1]
    nothing = draw_class_map(image, np.full_like(label_map, 255), NAMES, COLORS)
    assert nothing.shape == (640, 480, 3)


def test_many_classes_take_many_rows_and_none_is_cut_off() -> None:
    palette = [color[::-1] for color in make_palette(150)]
    picture = np.full((480, 700, 3), 60, np.uint8)
    names = [f"class of things {index}" for index in range(150)]
    drawn = add_legend(picture, range(150), names, palette)
    assert drawn.shape[1] == 700
    assert all((drawn[480:] == color).all(axis=2).sum() > 50 for color in palette)


def test_a_picture_narrower_than_a_name_is_widened() -> None:
    drawn = add_legend(np.full((480, 16, 3), 60, np.uint8), [2], NAMES, COLORS)
    assert drawn.shape[1] > 60
    assert (drawn[:480, :16] == 60).all() and (drawn[:480, 16:] == 255).all()
