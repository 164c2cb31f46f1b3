"""The colors of classes: those that a data set names, else made up, the same ones everywhere."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from mmbeit3.utils import InputError

GOLDEN = 0.618034  # steps of the golden ratio spread hues evenly for any number of classes

RGB = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def make_palette(num_classes: int) -> list[RGB]:
    """Give each class a color; classes next to each other get hues far apart.

    A class keeps its color when others are added after it.

    Args:
        num_classes: How many colors.

    Returns:
        (red, green, blue) each, 0 to 255.
    """
    return [_color(index) for index in range(num_classes)]


def check_palette(palette: Any, num_classes: int) -> list[RGB]:
    """Read the colors that a data set or a checkpoint names for its classes.

    Args:
        palette: What it names.
        num_classes: How many classes there are.

    Raises:
        InputError: They are no colors, or not one for each class.
    """
    kinds = (list, tuple, np.ndarray)
    if not isinstance(palette, kinds) or not all(map(_is_color, palette)):
        raise InputError(
            "the palette holds something else than colors; expected three numbers from 0 to 255 "
            "for each class"
        )
    if len(palette) != num_classes:
        raise InputError(
            f"the palette has {len(palette)} colors for {num_classes} classes; expected one for "
            "each"
        )
    return [(int(red), int(green), int(blue)) for red, green, blue in palette]


def palette_or_made(palette: Sequence[Sequence[int]] | Any, num_classes: int) -> list[RGB]:
    """Return a palette; where it is None, or cannot be used, that of :func:`make_palette`.

    Args:
        palette: What a data set or a checkpoint names.
        num_classes: How many classes there are.
    """
    try:
        return check_palette(palette, num_classes)
    except InputError:
        return make_palette(num_classes)


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple, np.ndarray))
        and len(value) == 3
        and all(isinstance(part, Real) and 0 <= float(part) <= 255 for part in value)
    )


def _color(index: int) -> RGB:
    saturation, value = (0.85, 0.6)[index // 8 % 2], (1.0, 0.8)[index // 16 % 2]
    red, green, blue = colorsys.hsv_to_rgb((0.56 + index * GOLDEN) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
