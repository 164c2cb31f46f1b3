"""Class maps as PNGs, which segmentors train on: only written, as they tell no objects apart."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmbeit3.datasets.label_formats.labels import LabeledImage, Labels, Notes, label_names
from mmbeit3.datasets.label_formats.outlines import bitmap
from mmbeit3.datasets.palette import make_palette
from mmbeit3.utils import InputError

MAX_CLASSES, UNKNOWN = 254, 255
NOTHING = ("background", "no object")


def is_written(path: Path) -> bool:
    """Whether a folder has what :func:`write` writes, and neither labels nor images of YOLO."""
    others = any((path / name).exists() for name in ("labels", "images", "data.yaml"))
    return (path / "classes.txt").is_file() and (path / "masks").is_dir() and not others


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write masks/, 8-bit PNGs, and classes.txt, whose first line is the name of 0."""
    if len(labels.classes) > MAX_CLASSES:
        raise InputError(
            f"{len(labels.classes)} classes are more than an 8-bit PNG tells apart: {MAX_CLASSES}"
        )
    nothing = next(name for name in NOTHING if name not in labels.classes)
    yield "classes.txt", lambda: "".join(f"{name}\n" for name in (nothing, *labels.classes))
    values = {name: value for value, name in enumerate(labels.classes, 1)}
    for image, name in zip(labels.images, label_names(labels.images, ".png"), strict=True):
        yield f"masks/{name}", partial(_png, image, values, notes)


def _png(image: LabeledImage, values: dict[str, int], notes: Notes) -> bytes:
    pixels = np.zeros((image.height, image.width), np.uint8)
    masks = [(bitmap(found, image), found) for found in image.objects]
    # Crowds first, then the largest, so that the smaller of two is seen in full.
    masks.sort(key=lambda pair: (not pair[1].is_crowd, -int(pair[0].sum())))
    for mask, found in masks:
        if (pixels[mask] > 0).any():
            notes.add("objects on others, which they hide", image.name)
        pixels[mask] = UNKNOWN if found.is_crowd else values[found.name]
    colors = [(0, 0, 0), *make_palette(len(values)), *[(255, 255, 255)] * (255 - len(values))]
    picture = Image.fromarray(pixels)
    picture.putpalette([value for color in colors for value in color])
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
