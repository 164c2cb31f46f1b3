"""A segmentor from a config and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.inference.image_list import Source
from mmbeit3.inference.result import Failed
from mmbeit3.inference.segmentor import Segmentor
from mmbeit3.utils import InputError


def source(path: Path, number: int = 1) -> Source:
    return Source(number, path, path.name, None)


def picture(path: Path, width: int = 30, height: int = 20) -> Path:
    image = Image.new("RGB", (width, height))
    image.paste("red", (2, 3, 12, 9))
    image.save(path)
    return path


def expected(width: int = 30, height: int = 20) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[3:9, 2:12] = 1
    return labels


def test_prediction(tmp_path, seg_cfg, seg_checkpoint):
    segmentor = Segmentor(seg_cfg, seg_checkpoint)
    assert segmentor.classes == ("dark", "red thing", "green thing")
    [found] = segmentor.predict([segmentor.load(source(picture(tmp_path / "a.png")))], 4)
    assert found.label_map.dtype == np.uint8
    np.testing.assert_array_equal(found.label_map, expected())
    assert found.nbytes == 20 * 30 * 4


def test_sizes_may_differ_within_a_batch(tmp_path, seg_cfg, seg_checkpoint):
    segmentor = Segmentor(seg_cfg, seg_checkpoint)
    sizes = [(30, 20), (40, 20), (30, 20), (20, 30)]
    paths = [picture(tmp_path / f"{i}.png", *size) for i, size in enumerate(sizes)]
    loaded = [segmentor.load(source(path, i)) for i, path in enumerate(paths)]
    for size, found in zip(sizes, segmentor.predict(loaded, 4), strict=True):
        np.testing.assert_array_equal(found.label_map, expected(*size))


def test_only_images_of_one_size_share_a_pass(tmp_path, seg_cfg, seg_checkpoint, monkeypatch):
    resize = dict(type="Resize", scale=(24, 24), keep_ratio=False)
    seg_cfg.test_dataloader.dataset.pipeline.insert(1, resize)
    segmentor = Segmentor(seg_cfg, seg_checkpoint)
    batches, step = [], segmentor.model.test_step
    monkeypatch.setattr(
        segmentor.model,
        "test_step",
        lambda data: batches.append([s.ori_shape for s in data["data_samples"]]) or step(data),
    )
    sizes = [(30, 20), (48, 48), (30, 20)]  # all of the same size once prepared
    paths = [picture(tmp_path / f"{i}.png", *size) for i, size in enumerate(sizes)]
    loaded = [segmentor.load(source(path, i)) for i, path in enumerate(paths)]
    found = list(segmentor.predict(loaded, 3))
    assert batches == [[(20, 30), (20, 30)], [(48, 48)]]
    assert [item.label_map.shape[::-1] for item in found] == sizes


def test_short_memory_goes_image_by_image(tmp_path, seg_cfg, seg_checkpoint):
    seg_cfg.model.max_pixels = 700
    segmentor = Segmentor(seg_cfg, seg_checkpoint)
    small, large = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 300, 200)
    loaded = [segmentor.load(source(path, i)) for i, path in enumerate((small, large, small))]
    first, second, third = segmentor.predict(loaded, 3)
    np.testing.assert_array_equal(first.label_map, expected())
    np.testing.assert_array_equal(third.label_map, expected())
    assert isinstance(second, Failed)
    assert "too little memory for this image of 300 x 200" in second.reason


def test_more_classes_than_names(tmp_path, seg_cfg, seg_checkpoint):
    seg_cfg.model.shift = 300
    segmentor = Segmentor(seg_cfg, seg_checkpoint)
    with pytest.raises(InputError, match="class number 301, but only 3 classes"):
        list(segmentor.predict([segmentor.load(source(picture(tmp_path / "a.png")))], 1))
