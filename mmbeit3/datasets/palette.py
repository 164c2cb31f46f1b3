"""Colors for classes that come without."""

from __future__ import annotations

import colorsys

GOLDEN = 0.618034  # steps of the golden ratio spread hues evenly for any number of classes


def make_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Give each class a color; classes next to each other get hues far apart.

    A class keeps its color when others are added after it.

    Args:
        num_classes: How many colors.

    Returns:
        (red, green, blue) each, 0 to 255.
    """
    return [_color(index) for index in range(num_classes)]


def _color(index: int) -> tuple[int, int, int]:
    saturation, value = (0.85, 0.6)[index // 8 % 2], (1.0, 0.8)[index // 16 % 2]
    red, green, blue = colorsys.hsv_to_rgb((0.56 + index * GOLDEN) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
