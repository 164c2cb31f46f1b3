"""A detector from a config and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmbeit3.inference.detector import Detector, checkpoint_classes
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import preparation, resolve_device
from mmbeit3.inference.result import Failed
from mmbeit3.utils import InputError


def source(path: Path, number: int = 1) -> Source:
    return Source(number, path, path.name, None)


def picture(path: Path, width: int = 30, height: int = 20) -> Path:
    image = Image.new("RGB", (width, height))
    image.paste("red", (2, 3, 12, 9))
    image.save(path)
    return path


def test_prediction(tmp_path, color_cfg, color_checkpoint):
    detector = Detector(color_cfg, color_checkpoint)
    assert detector.classes == ("red thing", "green thing")
    [found] = detector.predict([detector.load(source(picture(tmp_path / "a.png")))], 4)
    assert found.boxes.tolist() == [[2, 3, 12, 9]]
    assert found.labels.tolist() == [0]
    assert found.scores.tolist() == [pytest.approx(0.9)]
    assert found.masks.shape == (1, 20, 30)
    assert found.masks.dtype == bool
    assert found.image.shape == (20, 30, 3)


def test_failures_pass_through_in_place(tmp_path, color_cfg, color_checkpoint):
    detector = Detector(color_cfg, color_checkpoint)
    good, bad = picture(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_bytes(b"no image")
    paths = [bad, good, bad, bad, good, good, bad]
    for batch_size in (1, 2, 3, 10):
        loaded = [detector.load(source(path, i)) for i, path in enumerate(paths)]
        found = list(detector.predict(loaded, batch_size))
        assert [isinstance(item, Failed) for item in found] == [path == bad for path in paths]
        assert [item.source.image_id for item in found] == list(range(7))


def test_sizes_may_differ_within_a_batch(tmp_path, color_cfg, color_checkpoint):
    detector = Detector(color_cfg, color_checkpoint)
    sizes = [(30, 20), (40, 20), (30, 20), (20, 30)]
    paths = [picture(tmp_path / f"{i}.png", *size) for i, size in enumerate(sizes)]
    loaded = [detector.load(source(path, i)) for i, path in enumerate(paths)]
    found = list(detector.predict(loaded, 4))
    assert [item.masks.shape[:0:-1] for item in found] == sizes
    assert [item.source.image_id for item in found] == [0, 1, 2, 3]


def test_transform_errors_are_failures(tmp_path, color_cfg, color_checkpoint):
    color_cfg.test_dataloader.dataset.pipeline.insert(2, dict(type="Resize", scale=(0, 0)))
    failed = Detector(color_cfg, color_checkpoint).load(source(picture(tmp_path / "a.png")))
    assert isinstance(failed, Failed)
    assert failed.reason


def test_short_memory_goes_image_by_image(tmp_path, color_cfg, color_checkpoint):
    color_cfg.model.max_pixels = 700
    detector = Detector(color_cfg, color_checkpoint)
    small, large = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 300, 200)
    paths = (small, large, small)
    loaded = [detector.load(source(path, number)) for number, path in enumerate(paths)]
    first, second, third = detector.predict(loaded, 3)  # the small ones together are too large
    assert len(first.labels) == len(third.labels) == 1
    assert "too little memory for this image of 300 x 200" in second.reason


def test_more_classes_than_names(tmp_path, color_cfg, color_checkpoint):
    detector = Detector(color_cfg, color_checkpoint)
    detector.classes = ()
    with pytest.raises(InputError, match="class number 0"):
        list(detector.predict([detector.load(source(picture(tmp_path / "a.png")))], 1))


def test_weights_of_another_model(tmp_path, color_cfg):
    torch.save({"state_dict": {"other": torch.ones(1)}}, tmp_path / "other.pth")
    torch.save({"state_dict": {"weight": torch.ones(2)}}, tmp_path / "shape.pth")
    for name in ("other", "shape", "absent"):
        with pytest.raises(InputError):
            Detector(color_cfg, tmp_path / f"{name}.pth")


def test_classes_must_be_named(tmp_path, color_cfg):
    torch.save({"state_dict": {"weight": torch.ones(1)}}, tmp_path / "bare.pth")
    with pytest.raises(InputError, match="names the classes"):
        Detector(color_cfg, tmp_path / "bare.pth")


def test_classes_of_the_config_serve_bare_weights():
    dataset = dict(type="mmbeit3.CocoDataset", ann_file="absent", metainfo=dict(classes=("a", "b")))
    cfg = Config(
        dict(model=dict(bbox_head=dict(num_classes=80)), test_dataloader=dict(dataset=dataset))
    )
    assert checkpoint_classes(cfg, None) == ("a", "b")
    assert cfg.model.bbox_head.num_classes == 2


def test_preparation_loads_nothing(color_cfg):
    assert [step.type for step in preparation(color_cfg)] == ["PackDetInputs"]
    steps = [dict(type="mmdet.LoadAnnotations"), dict(type=np.ndarray), dict(type="Resize")]
    wrapped = dict(type="RepeatDataset", dataset=dict(type="X", pipeline=steps))
    cfg = Config(dict(test_dataloader=dict(dataset=wrapped)))
    assert [step.type for step in preparation(cfg)] == [np.ndarray, "Resize"]
    with pytest.raises(InputError, match="test_dataloader"):
        preparation(Config(dict(model=dict())))


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=name):
            resolve_device(name)
