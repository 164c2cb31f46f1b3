"""Transforms of classification give the pixels that timm and torchvision give."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms

from mmbeit3.datasets import ResizeCenterCrop, TimmAugment
from mmbeit3.datasets.transforms.classification import IMAGENET_MEAN, IMAGENET_STD
from mmbeit3.utils import InputError


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.mark.parametrize("shape", [(50, 71), (33, 20), (32, 32), (7, 90)])
@pytest.mark.parametrize("crop_ratio", [1.0, 0.875])
def test_resize_and_crop_as_torchvision(shape: tuple[int, int], crop_ratio: float) -> None:
    bgr = picture(*shape)
    ours = ResizeCenterCrop(32, crop_ratio).transform({"img": bgr})
    steps = [
        transforms.Resize(int(32 / crop_ratio), transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(32),
    ]
    expected = transforms.Compose(steps)(Image.fromarray(bgr[..., ::-1].copy()))
    np.testing.assert_array_equal(ours["img"][..., ::-1], np.asarray(expected))
    assert ours["img_shape"] == (32, 32)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "options",
    [
        dict(auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, re_prob=1.0),
        dict(color_jitter=0.4, hflip=0.0),
        dict(scale=(0.5, 1.0), re_prob=0.5, color_jitter=None),
    ],
)
def test_augmentation_as_timms_create_transform(number: int, options: dict) -> None:
    bgr = picture(60, 45)
    mean, std = (np.float32(values) / 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    theirs = create_transform(
        32,
        is_training=True,
        interpolation="bicubic",
        re_mode="pixel",
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        **options,
    )
    seed(number)
    expected = theirs(Image.fromarray(bgr[..., ::-1].copy()))
    names = dict(re_prob="erase_prob", scale="crop_area", hflip="flip_prob")
    own = {names.get(name, name): value for name, value in options.items() if value is not None}
    seed(number)
    image = TimmAugment(32, **own).transform({"img": bgr})["img"][..., ::-1].astype(np.float32)
    ours = ((image / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


def test_options_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="auto_augment is 'randm9', which timm cannot read"):
        TimmAugment(32, auto_augment="randm9")
    with pytest.raises(InputError, match="interpolation is 'cubic'; expected one of bilinear"):
        ResizeCenterCrop(32, interpolation="cubic")
    with pytest.raises(InputError, match="crop_ratio is 1.5"):
        ResizeCenterCrop(32, crop_ratio=1.5)
