"""Transforms of image classification, as timm and torchvision have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
INTERPOLATIONS = ("bilinear", "bicubic")


@TRANSFORMS.register_module()
class TimmAugment(BaseTransform):
    """Random resized crop, flip, automatic augmentation and random erasing, by timm.

    What ``timm.data.create_transform`` does for training, which the released code calls, but for
    the normalization, which is the model's.

    Required key: ``img`` (H, W, 3), BGR. Changed: ``img`` (scale, scale, 3), BGR, float32 in 0..255
    where anything may be erased, else uint8; ``img_shape``.

    Args:
        scale (int): Height and width of the result in pixels. Defaults to 224.
        crop_area (Sequence[float]): Smallest and largest share of the area. Defaults to (0.08, 1).
        aspect_ratio (Sequence[float]): Narrowest and widest crop, width by height. Defaults to
            (3 / 4, 4 / 3).
        flip_prob (float): How often to flip left and right. Defaults to 0.5.
        auto_augment (str, optional): A policy of timm. Defaults to None, as released it is
            "rand-m9-mstd0.5-inc1".
        color_jitter (float): Strength of changes to brightness, contrast and saturation; of no
            effect with ``auto_augment``. Defaults to 0.
        erase_prob (float): How often to fill a rectangle with noise. Defaults to 0, as released it
            is 0.25.
        mean (Sequence[float]): RGB mean of the model in 0..255: the noise is normal after the
            normalization. Defaults to that of ImageNet.
        std (Sequence[float]): As ``mean``.
        interpolation (str): "bilinear" or "bicubic". Defaults to "bicubic".

    Raises:
        InputError: ``interpolation`` is another, or timm does not know the policy.
    """

    def __init__(
        self,
        scale: int = 224,
        crop_area: Sequence[float] = (0.08, 1.0),
        aspect_ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        auto_augment: str | None = None,
        color_jitter: float = 0.0,
        erase_prob: float = 0.0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        interpolation: str = "bicubic",
    ) -> None:
        from timm.data import create_transform
        from timm.data.random_erasing import RandomErasing

        _check_interpolation(interpolation)
        self.scale = scale
        self.mean, self.std = (torch.tensor(list(v)).view(3, 1, 1) for v in (mean, std))
        jitter: Any = color_jitter or None  # timm takes None for none, which its hints leave out
        try:
            self._crop, self._augment, _ = create_transform(
                scale,
                is_training=True,
                scale=(crop_area[0], crop_area[1]),
                ratio=(aspect_ratio[0], aspect_ratio[1]),
                hflip=flip_prob,
                color_jitter=jitter,
                auto_augment=auto_augment,
                interpolation=interpolation,
                mean=tuple(value / 255 for value in mean),
                separate=True,
            )
        except (AssertionError, KeyError, ValueError) as error:
            raise InputError(
                f"auto_augment is {auto_augment!r}, which timm cannot read "
                f"({type(error).__name__}: {error}); expected a policy such as "
                "'rand-m9-mstd0.5-inc1', or None"
            ) from error
        self._erase = RandomErasing(erase_prob, mode="pixel", device="cpu") if erase_prob else None

    def transform(self, results: dict) -> dict:
        """Augment the image of a sample."""
        image = self._augment(self._crop(_to_pil(results["img"])))
        results["img"] = _to_bgr(image) if self._erase is None else self._erased(image, self._erase)
        results["img_shape"] = results["img"].shape[:2]
        return results

    def _erased(self, image: Image.Image, erase: Any) -> np.ndarray:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        pixels = erase((pixels - self.mean) / self.std) * self.std + self.mean
        return np.ascontiguousarray(pixels.permute(1, 2, 0).flip(2).numpy())


@TRANSFORMS.register_module()
class ResizeCenterCrop(BaseTransform):
    """Resize the shorter side, and cut a square out of the middle, as torchvision does.

    By Pillow, whose bicubic filter averages where it shrinks; that of OpenCV does not, and models
    that were trained by the former lose accuracy.

    Required key: ``img`` (H, W, 3), BGR, uint8. Changed: ``img`` (scale, scale, 3); ``img_shape``.

    Args:
        scale (int): Height and width of the result in pixels. Defaults to 224.
        crop_ratio (float): The result's side by the shorter side before the crop. Defaults to 1, as
            released.
        interpolation (str): "bilinear" or "bicubic". Defaults to "bicubic".

    Raises:
        InputError: ``interpolation`` is another, or ``crop_ratio`` is not above 0 and up to 1.
    """

    def __init__(
        self, scale: int = 224, crop_ratio: float = 1.0, interpolation: str = "bicubic"
    ) -> None:
        _check_interpolation(interpolation)
        if not 0 < crop_ratio <= 1:
            raise InputError(f"crop_ratio is {crop_ratio}; expected a number above 0 and up to 1")
        self.scale, self.crop_ratio = scale, crop_ratio
        self.interpolation = InterpolationMode(interpolation)

    def transform(self, results: dict) -> dict:
        """Resize and crop the image of a sample."""
        image = _to_pil(results["img"])
        image = F.resize(image, [int(self.scale / self.crop_ratio)], self.interpolation)
        results["img"] = _to_bgr(F.center_crop(image, [self.scale, self.scale]))
        results["img_shape"] = results["img"].shape[:2]
        return results


def _check_interpolation(name: str) -> None:
    if name not in INTERPOLATIONS:
        raise InputError(f"interpolation is {name!r}; expected one of {', '.join(INTERPOLATIONS)}")


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[..., ::-1]))


def _to_bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])
