"""mmseg's slow training transforms, with the same random draws and the same result."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import PhotoMetricDistortion as MMSegPhotoMetricDistortion
from mmseg.datasets.transforms import RandomCrop

from mmbeit3.datasets.transforms.layout import straighten
from mmbeit3.registry import TRANSFORMS

NUM_TRIES = 10  # mmseg's
NUM_LEVELS = 256  # of a pixel of 8 bits
NUM_HUES = 180  # OpenCV's hue is in steps of 2 degrees


@TRANSFORMS.register_module()
class SegRandomCrop(RandomCrop):
    """``mmseg.RandomCrop``, which counts the classes of a crop with a histogram.

    mmseg sorts all pixels for it, in up to ten crops of an image.

    Args:
        crop_size (int | tuple[int, int]): Height and width, of both if an int.
        cat_max_ratio (float): Largest share that one class may have. Defaults to 1, any share.
        ignore_index (int): The label that does not count as a class. Defaults to 255.
    """

    # The decorator enters the method here. Without this list it would do so in mmseg's own, which
    # has the name already, and mmcv's cache_random_params forbids to have it twice.
    _methods_with_randomness: list[str] = []

    @cache_randomness
    def crop_bbox(self, results: dict) -> tuple[int, int, int, int]:
        """Draw a crop until one has two classes and none with too large a share.

        Args:
            results: ``img`` (H, W, C) and ``gt_seg_map`` (H, W).

        Returns:
            y0, y1, x0, x1 in pixels; the last one drawn if ten were not good enough.
        """
        box = self._draw(results["img"])
        if self.cat_max_ratio < 1:
            for _ in range(NUM_TRIES):
                counts = self._count(self.crop(results["gt_seg_map"], box))
                if len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                    break
                box = self._draw(results["img"])
        return box

    def _draw(self, image: np.ndarray) -> tuple[int, int, int, int]:
        height, width = self.crop_size
        top = np.random.randint(max(image.shape[0] - height, 0) + 1)
        left = np.random.randint(max(image.shape[1] - width, 0) + 1)
        return top, top + height, left, left + width

    def _count(self, labels: np.ndarray) -> np.ndarray:
        """Number of pixels of each class that occurs."""
        if labels.dtype == np.uint8:
            values = np.arange(NUM_LEVELS)
            counts = cv2.calcHist([labels], [0], None, [NUM_LEVELS], [0, NUM_LEVELS])
            counts = counts.ravel().astype(np.int64)
        else:
            values, counts = np.unique(labels, return_counts=True)
        return counts[(counts > 0) & (values != self.ignore_index)]


@TRANSFORMS.register_module()
class PhotoMetricDistortion(MMSegPhotoMetricDistortion):
    """``mmseg.PhotoMetricDistortion``, which looks new values up instead of computing each pixel.

    Args:
        brightness_delta (int): Largest change of brightness. Defaults to 32.
        contrast_range (Sequence[float]): Range of contrast factors. Defaults to (0.5, 1.5).
        saturation_range (Sequence[float]): Range of saturation factors. Defaults to (0.5, 1.5).
        hue_delta (int): Largest change of hue in OpenCV's steps of 2 degrees. Defaults to 18.
    """

    def transform(self, results: dict) -> dict:
        """Distort the image ``img``, (H, W, 3) uint8 BGR."""
        results["img"] = straighten(results["img"])  # a mirrored view is slow to read
        return super().transform(results)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Scale and shift values: ``clip(img * alpha + beta, 0, 255)``, rounded down.

        Args:
            img: uint8 of any shape.
            alpha: Factor. Defaults to 1.
            beta: What is added. Defaults to 0.
        """
        return cv2.LUT(img, super().convert(np.arange(NUM_LEVELS, dtype=np.uint8), alpha, beta))

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Turn the hue of half of the images.

        Args:
            img: (H, W, 3) uint8 BGR.
        """
        if not np.random.randint(2):
            return img
        shift = np.random.randint(-self.hue_delta, self.hue_delta)
        table = ((np.arange(NUM_LEVELS) + shift) % NUM_HUES).astype(np.uint8)
        hsv = mmcv.bgr2hsv(img)
        hsv[..., 0] = cv2.LUT(hsv[..., 0], table)
        return mmcv.hsv2bgr(hsv)
