"""Random crops of images that have no boxes or masks."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation

from mmbeit3.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut a random part out of an image and resize it to a square: timm's, as BEiT-3 was trained.

    Pillow interpolates, with antialiasing, as in the released code; ``mmcv.Resize`` with
    ``backend="pillow"`` is its counterpart in tests.

    Required and modified keys: ``img`` (H, W, 3) uint8, ``img_shape``.

    Args:
        scale (int): Side of the result in pixels.
        crop_ratio_range (tuple[float, float]): Share of the image's area that is cut out. Defaults
            to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Width by height of the part. Defaults to
            (3/4, 4/3).
        interpolation (str): 'bicubic' or 'bilinear'. Defaults to 'bicubic'.
    """

    def __init__(
        self,
        scale: int,
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ) -> None:
        self.crop = RandomResizedCropAndInterpolation(
            scale, tuple(crop_ratio_range), tuple(aspect_ratio_range), interpolation
        )

    def transform(self, results: dict) -> dict:
        """Replace the image by a part of it."""
        # Pillow treats the channels alike: blue, green, red may stand for red, green, blue.
        results["img"] = np.array(self.crop(Image.fromarray(results["img"])))
        results["img_shape"] = results["img"].shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.crop})"
