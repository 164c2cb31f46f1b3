"""The legend of a class map: the colors and names of its classes, below the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbeit3.visualization.text_labels import Color, display_names, font_size, render

GROUND, INK, FRAME = 255, 0, 128


def add_legend(
    picture: np.ndarray, labels: Sequence[int], classes: Sequence[str], palette: Sequence[Color]
) -> np.ndarray:
    """Put the names of classes below a picture, in columns from the left, row by row.

    Args:
        picture (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        labels (Sequence[int]): Indices of the classes, in the order in which they are named.
        classes (Sequence[str]): Names of all classes.
        palette (Sequence[tuple]): BGR color of each class.

    Returns:
        np.ndarray: A picture that is higher, and wider only if one name needs it.
    """
    if not len(labels):
        return picture
    names = display_names(classes)
    size = font_size(*picture.shape[:2])
    entries = [_entry(names[label], palette[label], size) for label in labels]
    height = max(entry.shape[0] for entry in entries)
    width = max(entry.shape[1] for entry in entries)
    columns = max(1, picture.shape[1] // width)
    margin = height // 3
    rows = -(-len(entries) // columns)
    strip = np.full((rows * height + 2 * margin, max(picture.shape[1], width), 3), GROUND, np.uint8)
    for index, entry in enumerate(entries):
        y, x = margin + index // columns * height, index % columns * width
        strip[y : y + entry.shape[0], x : x + entry.shape[1]] = entry
    wider = strip.shape[1] - picture.shape[1]
    picture = np.pad(picture, ((0, 0), (0, wider), (0, 0)), constant_values=GROUND)
    return np.vstack((picture, strip))


def _entry(name: str, color: Color, size: int) -> np.ndarray:
    """A square of a color, with a thin frame as it may be white, and a name."""
    ink = render(name, size)
    height, width = ink.shape[:2]
    entry = np.full((height, width + height + size, 3), GROUND, np.uint8)
    inset = max(1, height // 6)
    left, right = size // 2, size // 2 + height - 2 * inset
    entry[inset : height - inset, left:right] = FRAME
    entry[inset + 1 : height - inset - 1, left + 1 : right - 1] = color
    start = right + inset // 2
    entry[:, start : start + width] = GROUND + ink * (INK - GROUND)
    return entry
