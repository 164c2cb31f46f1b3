"""A text below a picture: its caption, or a question with its answer; and pictures side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from mmbeit3.visualization.overlay import display_scale, resized
from mmbeit3.visualization.text_labels import font_size, render, rendered_width

GROUND, INK = 255, 0
MIN_WIDTH = 12  # of a picture with a text, in heights of its letters
GAP = 50  # between two pictures, a share of their height: 1 / 50


def draw_text(image: np.ndarray, text: str) -> np.ndarray:
    """Resize an image to be looked at, and put a text below it.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        text (str): Lines; those that are too wide are broken.

    Returns:
        np.ndarray: The picture, as :func:`mmbeit3.visualization.overlay.display_scale` and
        :func:`add_text` make it.
    """
    return add_text(resized(image, display_scale(*image.shape[:2])), text)


def add_text(picture: np.ndarray, text: str) -> np.ndarray:
    """Put a text below a picture (H, W, 3), BGR, uint8; one too narrow for words gets a margin."""
    size = 3 * font_size(*picture.shape[:2]) // 2
    width = max(picture.shape[1], MIN_WIDTH * size)
    margin = width - picture.shape[1]
    picture = np.pad(picture, ((0, 0), (0, margin), (0, 0)), constant_values=GROUND)
    lines = [line for part in text.splitlines() for line in _broken(part, size, width)]
    inks = [render(line, size)[:, :width] for line in lines]
    strip = np.full((sum(ink.shape[0] for ink in inks) + size, width, 3), GROUND, np.uint8)
    y = size // 2
    for ink in inks:
        height = ink.shape[0]
        strip[y : y + height, : ink.shape[1]] = GROUND + ink * (INK - GROUND)
        y += height
    return np.vstack((picture, strip))


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images (H, W, 3), BGR, uint8, next to each other, as high as the lowest of them."""
    height = min(image.shape[0] for image in images)
    gap = np.full((height, max(1, height // GAP), 3), GROUND, np.uint8)
    parts: list[np.ndarray] = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        same = image.shape[0] == height
        one = image if same else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        parts += [one, gap]
    return np.hstack(parts[:-1])


def _broken(text: str, size: int, width: int) -> Iterator[str]:
    """Break a line between words, or within one that is wider than the picture."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".lstrip()
        if rendered_width(longer, size) <= width:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for letter in word:
            if line and rendered_width(line + letter, size) > width:
                yield line
                line = ""
            line += letter
    if line:
        yield line
