"""Texts of pictures: names and scores, and labels that are put where they hide the least."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmbeit3.utils import listed, warn
from mmbeit3.utils.fonts import default_font, lacks_letters, load_font, split_by_font

Color = tuple[int, int, int]
Places = list[tuple[int, int]]

MIN_FONT_SIZE = 12
MAX_NAME = 32  # letters of a class name; longer ones would hide the picture
MAX_HIDDEN = 1.0  # objects that a label may hide, as the sum of the hidden parts
#: Puts the score right of a name also where that is written from right to left.
LEFT_TO_RIGHT = "\u200e"


def font_size(height: int, width: int) -> int:
    """Return the height of letters, in pixels, that can be read on a picture of this size."""
    return max(MIN_FONT_SIZE, round(math.sqrt(height * width) / 42))


def line_width(height: int, width: int) -> int:
    """Return the width of lines that are seen on a picture of this size."""
    return max(1, round(math.sqrt(height * width) / 300))


def label_text(name: str, score: float | None = None) -> str:
    """Return what stands on an object: its name, and its score if it has one."""
    return name if score is None else f"{name}{LEFT_TO_RIGHT} {score:.2f}"


def display_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return class names as they are drawn.

    A long one is cut, and one with letters that no font of this machine has is ``class 3``, by its
    index; the log says once which they are.

    Args:
        classes (Sequence[str]): The names.
    """
    return _display_names(tuple(map(str, classes)))


@lru_cache(maxsize=64)
def _display_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    missing = {name: f"class {index}" for index, name in enumerate(classes) if lacks_letters(name)}
    if missing:
        warn(
            f"no font here has the letters of {listed(missing)}: pictures say "
            f"{listed(missing.values())}. Install a font that has them, such as Noto Sans CJK for "
            "Chinese, Japanese and Korean"
        )
    names = [missing.get(name, name) for name in classes]
    return tuple(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names)


class Chips:
    """Writes texts on a picture; their size follows that of the picture.

    Args:
        picture (np.ndarray): (H, W, 3), BGR, uint8; written on.
        objects (np.ndarray, optional): (N, 4), x1 y1 x2 y2, what the texts are to hide little of.
            Defaults to None, nothing.
    """

    def __init__(self, picture: np.ndarray, objects: np.ndarray | None = None) -> None:
        self._picture = picture
        self._size = font_size(*picture.shape[:2])
        self._taken: np.ndarray = np.zeros((0, 4), int)
        self._objects: np.ndarray = np.zeros((0, 4), int) if objects is None else objects

    def put(self, text: str, color: Color, places: Callable[[int, int], Places]) -> bool:
        """Write a text where it covers no other one; leave it out if it finds no place.

        Args:
            text (str): The text.
            color (tuple): Its ground, BGR.
            places (Callable): Takes the chip's height and width, returns places for its top left
                corner (x, y). Of those where it hides the least of the objects the first is taken,
                and none where it would hide a whole one. A place beyond the left or right edge
                moves inside.

        Returns:
            bool: Whether it was written.
        """
        ground = chip(text, self._size, color)
        height, width = ground.shape[:2]
        free: list[tuple[float, int, np.ndarray]] = []
        for x, y in places(height, width) if width <= self._picture.shape[1] else ():
            x = min(max(x, 0), self._picture.shape[1] - width)
            place = np.array((x, y, x + width, y + height))
            inside = 0 <= y <= self._picture.shape[0] - height
            if inside and not _common_area(place, self._taken).any():
                free.append((self._hidden(place), len(free), place))
        if not free:
            return False
        hidden, _, place = min(free, key=lambda one: one[:2])
        if hidden > MAX_HIDDEN:
            return False
        x1, y1, x2, y2 = place
        self._picture[y1:y2, x1:x2] = ground
        self._taken = np.vstack((self._taken, place))
        return True

    def _hidden(self, place: np.ndarray) -> float:
        """How many objects are hidden at a place, as the sum of their hidden parts."""
        x1, y1, x2, y2 = self._objects.T
        areas = np.maximum((x2 - x1) * (y2 - y1), 1)
        return round(float((_common_area(place, self._objects) / areas).sum()), 2)


def chip(text: str, size: int, color: Color) -> np.ndarray:
    """Write a text of ``size`` pixels on a ground of its color: (h, w, 3), BGR, uint8."""
    blue, green, red = color
    ink = 0 if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else 255
    ground = np.array(color, np.float32)
    return (ground + render(text, size) * (ink - ground)).astype(np.uint8)


@lru_cache(maxsize=4096)
def render(text: str, size: int) -> np.ndarray:
    """Render a text with a margin: (h, w, 1), float32, 1 where there is ink."""
    runs = _runs(text, size)
    fonts = [load_font(default_font(), size), *(font for _, font in runs)]
    ascent, descent = (
        max(heights) for heights in zip(*(f.getmetrics() for f in fonts), strict=True)
    )
    picture = Image.new("L", (rendered_width(text, size), ascent + descent + 2))
    draw, x = ImageDraw.Draw(picture), float(_margin(size))
    for part, font in runs:
        draw.text((x, ascent + 1), part, fill=255, font=font, anchor="ls")  # on one baseline
        x += font.getlength(part)
    return np.asarray(picture, np.float32)[..., None] / 255


def rendered_width(text: str, size: int) -> int:
    """Return how wide :func:`render` makes a text."""
    return math.ceil(sum(font.getlength(part) for part, font in _runs(text, size))) + 2 * _margin(
        size
    )


def _runs(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    parts = [run for part in text.split(LEFT_TO_RIGHT) for run in split_by_font(part)]
    return [(part, load_font(path, size)) for part, path in parts]


def _margin(size: int) -> int:
    return max(2, size // 5)


def _common_area(place: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas, (N,), that one of x1 y1 x2 y2 has in common with each of (N, 4)."""
    width = np.minimum(place[2], others[:, 2]) - np.maximum(place[0], others[:, 0])
    height = np.minimum(place[3], others[:, 3]) - np.maximum(place[1], others[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)
