"""Normalization of images with any number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmseg.models.data_preprocessor import SegDataPreProcessor

from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


class _Multiband:
    """Takes a mean and a std of any length, where mmengine's takes one of 3 or 1."""

    register_buffer: Any
    mean: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        if kwargs.get("bgr_to_rgb") or kwargs.get("rgb_to_bgr"):
            raise InputError(
                "bgr_to_rgb and rgb_to_bgr are of three colors: order the bands by bands of "
                "mmbeit3.LoadMultibandImage instead"
            )
        if len(mean) != len(std) or not mean or not all(value > 0 for value in std):
            raise InputError(
                f"data_preprocessor has a mean of {len(mean)} values and std={list(std)}; expected "
                "one of each for every channel, and no std of 0"
            )
        super().__init__(**kwargs)
        self._enable_normalize = True
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        expected = len(self.mean)
        for image, sample in zip(data["inputs"], data.get("data_samples") or (), strict=False):
            if image.shape[-3] != expected:
                raise InputError(
                    f"{sample.get('img_path', 'an image')} has {image.shape[-3]} channels as "
                    f"loaded, and model.data_preprocessor a mean of {expected} values: set mean, "
                    "std and model.backbone.in_channels to the bands of the pipeline's "
                    "mmbeit3.LoadMultibandImage"
                )
        return super().forward(data, training)  # type: ignore[misc]


@MODELS.register_module()
class MultibandDetDataPreprocessor(_Multiband, DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor`` for any number of channels.

    Args:
        mean (Sequence[float]): Of each channel, in the order of the loader's ``bands``.
        std (Sequence[float]): Of each channel.
        **kwargs: Others of mmdet's, without ``bgr_to_rgb``.

    Raises:
        InputError: Mean and std are not of one length.
    """


@MODELS.register_module()
class MultibandSegDataPreprocessor(_Multiband, SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` for any number of channels; as the one of detection."""
