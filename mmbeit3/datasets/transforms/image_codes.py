"""Codes of an image tokenizer that were computed before the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, CenterCrop, Resize

from mmbeit3.datasets.image_codes import ImageCodes
from mmbeit3.datasets.transforms.classification import ResizeCenterCrop
from mmbeit3.datasets.transforms.loading import LoadImageFromFile
from mmbeit3.datasets.transforms.packing import PackImageText
from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError

CURE = "make them by `mmbeit3 prepare-codes CONFIG`, or leave LoadImageCodes out"


@TRANSFORMS.register_module()
class LoadImageCodes(BaseTransform):
    """Give an image the codes that ``mmbeit3 prepare-codes`` has kept, in place of the tokenizer's.

    They are those of one view of it: no other transform of the pipeline may draw random numbers,
    which is looked at when a data set is loaded, as is that all images have codes and are as they
    were when these were computed.

    Required key: ``img_path``. Added keys: ``image_codes``, (patches,) int64, and
    ``image_codes_of``, the digest of the tokenizer. It stands before :class:`PackImageText`.

    Args:
        file (str): The file of codes, ``.safetensors``.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._codes: ImageCodes | None = None

    def transform(self, results: dict) -> dict:
        """Look the image up.

        Raises:
            InputError: It has no codes, or is not as it was.
        """
        codes = self._read().find(results["img_path"])
        if codes is None:
            raise InputError(f"{self.file} has no codes of {results['img_path']} as it is: {CURE}")
        results["image_codes"] = torch.from_numpy(codes.astype(np.int64))
        results["image_codes_of"] = self._read().tokenizer
        return results

    def check(self, pipeline: Sequence[Any], images: Sequence[str]) -> None:
        """Make sure that a training can use the file.

        Args:
            pipeline (Sequence): The transforms, this one among them.
            images (Sequence[str]): The ``img_path`` of all samples.

        Raises:
            InputError: A transform may make another view each time, codes are of another view, or
                some images have none.
        """
        view, codes = describe_view(pipeline), self._read()
        if codes.view != view:
            raise InputError(
                f"{self.file} has codes of images that were prepared by {codes.view}, and the "
                f"pipeline has {view}: {CURE}"
            )
        missing = [image for image in dict.fromkeys(images) if codes.find(image) is None]
        if missing:
            raise InputError(
                f"{self.file} lacks the codes of {len(missing)} of {len(set(images))} images, "
                f"which are new or have changed, the first: {missing[0]}. {CURE.capitalize()}"
            )

    def _read(self) -> ImageCodes:
        if self._codes is None:
            self._codes = ImageCodes.read(self.file)
        return self._codes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(file={self.file!r})"


def describe_view(pipeline: Iterable[Any]) -> str:
    """Say how a pipeline makes the images that an image tokenizer sees.

    Raises:
        InputError: A transform may make another view of an image each time, or packs samples
            before they have codes.
    """
    texts, is_packed = [], False
    for step in pipeline:
        if isinstance(step, LoadImageCodes) and is_packed:
            raise InputError(
                "LoadImageCodes stands behind PackImageText, which packs what it finds: put it "
                "before that"
            )
        is_packed = is_packed or isinstance(step, PackImageText)
        if isinstance(step, (LoadImageCodes, PackImageText)):
            continue
        name = type(step).__name__
        if not isinstance(step, (LoadImageFromFile, Resize, CenterCrop, ResizeCenterCrop)):
            raise InputError(
                f"LoadImageCodes stands in a pipeline with {name}, which may make another view of "
                "an image each time, and codes are those of one; expected LoadImageFromFile, "
                "Resize, CenterCrop, ResizeCenterCrop and PackImageText: leave out one of the two"
            )
        given = {key: vars(step)[key] for key in sorted(vars(step)) if not key.startswith("_")}
        texts.append(f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})")
    return ", ".join(texts)


def check_codes(pipeline: Sequence[Any], images: Iterable[str]) -> None:
    """Have a pipeline's :class:`LoadImageCodes`, if it has one, look at the images of a data set.

    Args:
        pipeline (Sequence): The transforms.
        images (Iterable[str]): The ``img_path`` of all samples.

    Raises:
        InputError: See :meth:`LoadImageCodes.check`.
    """
    for step in pipeline:
        if isinstance(step, LoadImageCodes):
            step.check(pipeline, list(images))
