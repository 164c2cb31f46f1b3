"""Chips: short texts on grounds of their colors, put where they hide no earlier one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from mmbeit3.utils.fonts import default_font, load_font, split_by_font

Color = tuple[int, int, int]
Places = list[tuple[int, int]]


class Chips:
    """Writes texts on a picture; their size follows that of the picture.

    Args:
        picture (np.ndarray): (H, W, 3), BGR, uint8; written on.
    """

    def __init__(self, picture: np.ndarray) -> None:
        self._picture = picture
        self._size = max(12, round(min(picture.shape[:2]) / 40))
        self._taken: np.ndarray = np.zeros((0, 4), int)

    def put(self, text: str, color: Color, places: Callable[[int, int], Places]) -> bool:
        """Write a text at the first place that is free; leave it out if none is.

        Args:
            text (str): The text.
            color (tuple): Its ground, BGR.
            places (Callable): Takes the chip's height and width, returns places for its top left
                corner (x, y), best first. A place beyond the left or right edge moves inside.

        Returns:
            bool: Whether it was written.
        """
        ground = chip(text, self._size, color)
        height, width = ground.shape[:2]
        for x, y in places(height, width) if width <= self._picture.shape[1] else ():
            x = min(max(x, 0), self._picture.shape[1] - width)
            if 0 <= y <= self._picture.shape[0] - height and self._is_free(x, y, height, width):
                self._picture[y : y + height, x : x + width] = ground
                self._taken = np.vstack((self._taken, (x, y, x + width, y + height)))
                return True
        return False

    def _is_free(self, x: int, y: int, height: int, width: int) -> bool:
        left, top, right, bottom = self._taken.T
        return not ((left < x + width) & (x < right) & (top < y + height) & (y < bottom)).any()


def chip(text: str, size: int, color: Color) -> np.ndarray:
    """Write a text of ``size`` pixels on a ground of its color: (h, w, 3), BGR, uint8."""
    blue, green, red = color
    ink = 0 if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else 255
    ground = np.array(color, np.float32)
    return (ground + _opacity(text, size) * (ink - ground)).astype(np.uint8)


@lru_cache(maxsize=4096)
def _opacity(text: str, size: int) -> np.ndarray:
    """Render a text with a margin: (h, w, 1), float32, 1 where there is ink."""
    runs = [(part, load_font(path, size)) for part, path in split_by_font(text)]
    fonts = [load_font(default_font(), size), *(font for _, font in runs)]
    ascent, descent = (
        max(heights) for heights in zip(*(f.getmetrics() for f in fonts), strict=True)
    )
    pad = max(2, size // 5)
    width = math.ceil(sum(font.getlength(part) for part, font in runs))
    picture = Image.new("L", (width + 2 * pad, ascent + descent + 2))
    draw, x = ImageDraw.Draw(picture), float(pad)
    for part, font in runs:
        draw.text((x, ascent + 1), part, fill=255, font=font, anchor="ls")  # on one baseline
        x += font.getlength(part)
    return np.asarray(picture, np.float32)[..., None] / 255
