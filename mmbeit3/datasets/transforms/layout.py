"""How an image lies in memory. These transforms change no pixel, only how long the next one takes.

numpy copies a mirrored view, and turns pixels into channels, many times slower than OpenCV does.
"""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmbeit3.registry import TRANSFORMS

# Which axes of a view run backwards: how OpenCV calls that flip
FLIP_CODES = {(0,): 0, (1,): 1, (0, 1): -1}


def straighten(image: np.ndarray) -> np.ndarray:
    """Write out a mirrored view; other arrays are returned as they are.

    Args:
        image: (H, W) or (H, W, C) of a type that OpenCV knows, such as uint8 and float32.
    """
    backwards = tuple(axis for axis in (0, 1) if image.strides[axis] < 0)
    if not backwards:
        return image
    # Flipped back, the view runs forwards: OpenCV takes it without a copy and mirrors it again.
    flipped = cv2.flip(np.flip(image, backwards), FLIP_CODES[backwards])
    return flipped.reshape(image.shape)  # OpenCV drops a single channel


@TRANSFORMS.register_module()
class ContiguousImage(BaseTransform):
    """Write out the image after ``RandomFlip``, which only makes a mirrored view of it.

    Required and modified key: ``img``, (H, W) or (H, W, C).
    """

    def transform(self, results: dict) -> dict:
        """Replace the image by an equal one that is no mirrored view."""
        results["img"] = straighten(results["img"])
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@TRANSFORMS.register_module()
class ChannelsFirst(BaseTransform):
    """Store the image channel after channel, so that packing it as (C, H, W) takes no copy.

    It stays an array of shape (H, W, C) with the same values. To stand right before
    ``PackDetInputs`` or ``PackSegInputs``.

    Required and modified key: ``img``, (H, W) or (H, W, C).
    """

    def transform(self, results: dict) -> dict:
        """Replace the image by an equal one with another order in memory."""
        image = results["img"]
        if image.ndim == 3:
            height, width, num_channels = image.shape
            planes = np.empty((num_channels, height, width), image.dtype)
            cv2.split(straighten(image), list(planes))
            results["img"] = planes.transpose(1, 2, 0)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
