"""Labels of every kind, and images for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets.label_formats.labels import LabeledImage, LabeledObject, Labels
from mmbeit3.datasets.label_formats.outlines import encode

NAMES = ("plain.jpg", "sub dir/größe 1.png", "sub dir/空.jpg")


def ring(height: int, width: int) -> np.ndarray:
    """A mask with a hole, and a second part."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - 20, x - 25)
    mask = (distance < 15) & (distance > 6)
    mask[height - 8 : height - 2, width - 12 : width - 5] = True
    return mask


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Boxes, polygons, two in one, bitmaps with holes, a crowd; an image with nothing."""
    root = tmp_path / "images"
    sizes = [(100, 80), (61, 47), (40, 30)]
    for name, size in zip(NAMES, sizes, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / name)
    first = [
        LabeledObject("cat", (10.25, 5.5, 60.75, 50.125)),
        LabeledObject("Übung, <b>&", (0.0, 0.0, 100.0, 80.0)),
        LabeledObject("cat", (3.5, 3.5, 40.5, 30.5), [[3.5, 3.5, 40.5, 3.5, 22.25, 30.5]]),
    ]
    mask = ring(47, 61)
    second = [
        LabeledObject("dog", (10.0, 5.0, 56.0, 45.0), encode(mask)),
        LabeledObject(
            "dog",
            (1.0, 1.0, 30.0, 30.0),
            [[1.0, 1.0, 10.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 20.0, 30.0, 30.0, 20.0, 30.0]],
        ),
        LabeledObject("dog", (10.0, 5.0, 56.0, 45.0), encode(mask), is_crowd=True),
    ]
    images = [
        LabeledImage(NAMES[0], *sizes[0], first),
        LabeledImage(NAMES[1], *sizes[1], second),
        LabeledImage(NAMES[2], *sizes[2]),
    ]
    return Labels(["dog", "cat", "absent", "Übung, <b>&"], images, root)
