"""RandAugment as BEiT-3 was fine-tuned with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageEnhance, ImageOps

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError

MAX_LEVEL = 10
PROBABILITY = 0.5  # with which an operation that was drawn is applied
FILL = (128, 128, 128)  # where a warped image ends

Operation = Callable[[np.ndarray, float], np.ndarray]  # of an image and a level from 0 to 1


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """Apply operations drawn at random, each in half of the cases: the released code's variant.

    The table is that of ``beit3/randaug.py`` (microsoft/unilm), not that of the paper
    (arXiv 1909.13719), timm or torchvision: at the level 7 of 10 brightness and sharpness grow by
    1.36 and never fall, shears are 0.21, shifts 7 pixels whatever the image's size, rotations 21
    degrees, each to either side. There, sharpened pixels beyond 0 and 255 wrap around; here they
    stay at the ends.

    Required and modified key: ``img`` (H, W, 3) uint8.

    Args:
        num_ops (int): How many operations are drawn, with replacement. Defaults to 2.
        level (float): Strength, from 0 to 10. Defaults to 7.
        ops (Sequence[str]): What is drawn from. Defaults to all that the released code names.

    Raises:
        InputError: An operation is not known, or a number is impossible.
    """

    def __init__(
        self, num_ops: int = 2, level: float = 7, ops: Sequence[str] | None = None
    ) -> None:
        self.ops = tuple(OPERATIONS if ops is None else ops)
        if unknown := [name for name in self.ops if name not in OPERATIONS]:
            raise InputError(
                f"RandAugment has the operation {unknown[0]!r}; expected some of "
                f"{', '.join(OPERATIONS)}"
            )
        if not (num_ops >= 1 and self.ops and 0 <= level <= MAX_LEVEL):
            raise InputError(
                f"RandAugment has num_ops {num_ops}, level {level} and {len(self.ops)} ops; "
                f"expected 1 or more, 0 to {MAX_LEVEL}, and 1 or more"
            )
        self.num_ops, self.level = num_ops, level

    def transform(self, results: dict) -> dict:
        """Change the image."""
        image = np.ascontiguousarray(results["img"])
        for name in np.random.choice(self.ops, self.num_ops):
            if np.random.random() < PROBABILITY:
                image = OPERATIONS[name](image, self.level / MAX_LEVEL)
        results["img"] = image
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_ops={self.num_ops}, level={self.level}, ops={self.ops})"


def _by_pillow(change: Callable[[Image.Image, float], Image.Image]) -> Operation:
    # Pillow treats the channels alike: blue, green, red may stand for red, green, blue.
    return lambda image, level: np.array(change(Image.fromarray(image), level))


def _factor(level: float) -> float:
    return 0.1 + 1.8 * level


def _either_side(amount: float) -> float:
    return amount if np.random.random() < 0.5 else -amount


def _shear(direction: str) -> Operation:
    return lambda image, level: mmcv.imshear(image, _either_side(0.3 * level), direction, FILL)


def _translate(direction: str) -> Operation:
    return lambda image, level: mmcv.imtranslate(image, _either_side(10 * level), direction, FILL)


def _rotate(image: np.ndarray, level: float) -> np.ndarray:
    # Not mmcv.imrotate: with its matrix of 64 bits a few pixels differ.
    width, height = image.shape[1], image.shape[0]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), _either_side(30 * level), 1)
    return cv2.warpAffine(image, np.asarray(matrix, np.float32), (width, height), borderValue=FILL)


OPERATIONS: Mapping[str, Operation] = {
    "Identity": lambda image, level: image,
    "AutoContrast": _by_pillow(lambda image, level: ImageOps.autocontrast(image)),
    "Equalize": _by_pillow(lambda image, level: ImageOps.equalize(image)),
    "Brightness": _by_pillow(
        lambda image, level: ImageEnhance.Brightness(image).enhance(_factor(level))
    ),
    "Sharpness": _by_pillow(
        lambda image, level: ImageEnhance.Sharpness(image).enhance(_factor(level))
    ),
    "ShearX": _shear("horizontal"),
    "ShearY": _shear("vertical"),
    "TranslateX": _translate("horizontal"),
    "TranslateY": _translate("vertical"),
    "Rotate": _rotate,
}
