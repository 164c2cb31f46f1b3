"""Samples of two images: each is transformed by itself, and its loader is found."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from PIL import Image

from mmbeit3.analysis.image_size import training_size
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.inference.inferencer import preparation
from mmbeit3.utils import InputError


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    paths = []
    for index, size in enumerate([(40, 30), (20, 50)]):
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        paths.append(str(tmp_path / f"{index}.png"))
    return paths


def each_image(*steps: dict) -> Compose:
    load = dict(type="LoadImageFromFile", _scope_="mmbeit3")
    inner = dict(type="mmbeit3.ForEachImage", transforms=[load, *steps])
    return Compose([inner, dict(type="mmbeit3.PackImageText")])


def test_each_image_of_a_sample_is_transformed_by_itself(pair: list[str]) -> None:
    resize = dict(type="Resize", scale=(32, 24), keep_ratio=False)
    packed = each_image(resize)({"img_path": pair, "texts": ["a"]})
    assert packed["inputs"].shape == (2, 3, 24, 32)
    sample = packed["data_samples"]
    assert sample.img_path == pair and sample.texts == ["a"]
    assert sample.ori_shape == [(40, 30), (20, 50)]
    for index, path in enumerate(pair):
        alone = Compose([dict(type="LoadImageFromFile", _scope_="mmbeit3"), resize])
        want = alone({"img_path": path})["img"].transpose(2, 0, 1)
        np.testing.assert_array_equal(packed["inputs"][index].numpy(), want)
    loaded = [np.zeros((10, 12, 3), np.uint8), np.ones((8, 12, 3), np.uint8)]
    steps = Compose([dict(type="mmbeit3.ForEachImage", transforms=[resize])])
    found = steps({"img": loaded})["img"]
    assert [image.max() for image in found] == [0, 1] and found[1].shape == (24, 32, 3)


def test_the_two_images_have_random_draws_of_their_own(pair: list[str]) -> None:
    crop = dict(type="mmbeit3.RandomResizedCrop", scale=8, crop_ratio_range=(0.05, 0.1))
    random.seed(0)
    inputs = each_image(crop)({"img_path": [pair[0], pair[0]]})["inputs"]
    assert not torch.equal(inputs[0], inputs[1])


def test_images_of_a_sample_that_do_not_fit_are_named(pair: list[str]) -> None:
    with pytest.raises(InputError, match=r"sizes \(20, 50\) and \(40, 30\); expected one size"):
        each_image()({"img_path": pair})
    with pytest.raises(InputError, match="img_path is 'a.png'; expected a list of paths"):
        each_image()({"img_path": "a.png"})


def test_the_loader_of_each_image_and_what_they_are_resized_to_are_found() -> None:
    load = dict(type="LoadImageFromFile", _scope_="mmbeit3", exif="ignore")
    settings = [dict(type="mmbeit3.ForEachImage", transforms=[load])]
    for pipeline in (settings, Compose(settings).transforms):
        assert image_loader(pipeline).exif == "ignore"
    settings[0]["transforms"] += [dict(type="mmbeit3.RandomResizedCrop", scale=48)]
    loader = dict(dataset=dict(pipeline=settings))
    cfg = Config(dict(model={}, test_dataloader=loader, train_dataloader=loader))
    assert [step.type for step in preparation(cfg)[0].transforms] == ["mmbeit3.RandomResizedCrop"]
    assert training_size(cfg) == (48, 48)
