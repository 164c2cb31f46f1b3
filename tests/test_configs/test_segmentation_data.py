"""The configs of segmentation data: they load real files, with the crops and scales they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from PIL import Image

from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.checks import segmentation as seg_checks
from mmbeit3.registry import DATASETS, METRICS
from mmbeit3.utils import InputError

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "_base_" / "datasets"


def _build(cfg: Config, loader: str, root: Path, **kwargs) -> BaseDataset:
    init_default_scope("mmseg")
    return DATASETS.build(cfg[loader].dataset | {"data_root": str(root)} | kwargs)


@pytest.mark.parametrize("size", [512, 640, 896])
def test_ade20k_at_its_sizes(size: int, data_root: Path) -> None:
    cfg = Config.fromfile(FOLDER / f"ade20k_{size}.py")
    root = data_root / "ade20k_sample"
    train = _build(cfg, "train_dataloader", root)
    for _ in range(3):
        sample = train[0]
        assert sample["inputs"].dtype == torch.uint8
        height, width = sample["inputs"].shape[1:]
        assert max(height, width) <= size
        assert sample["data_samples"].gt_sem_seg.data.shape == (1, height, width)
    assert cfg.crop_size == (size, size)
    assert cfg.train_dataloader.batch_size == 2  # times 8 GPUs: 16
    (sample,) = _build(cfg, "val_dataloader", root, indices=1)
    assert min(sample["inputs"].shape[1:]) == size
    labels = sample["data_samples"].gt_sem_seg.data
    assert labels.shape[1:] == sample["data_samples"].ori_shape == (512, 683)
    assert int(labels.min()) >= 0 and int(labels[labels != 255].max()) < 150


def test_the_scales_of_training() -> None:
    resize = Config.fromfile(FOLDER / "ade20k_512.py").train_pipeline[2]
    assert resize.scales == list(map(int, resize.scales)) and len(resize.scales) == 16
    assert (resize.scales[0], resize.scales[-1], resize.max_size) == (256, 1024, 2048)
    resize = Config.fromfile(FOLDER / "ade20k_640.py").train_pipeline[2]
    assert (resize.scales[0], resize.scales[-1], resize.max_size) == (320, 1280, 2560)
    for name in ("ade20k_896", "coco_stuff164k_896"):
        resize = Config.fromfile(FOLDER / f"{name}.py").train_pipeline[2]
        assert (resize.scale, resize.ratio_range) == ((3584, 896), (0.5, 2.0))


def test_the_generated_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_shapes(tmp_path / "shapes", 4, 2, 128, seed=0)
    monkeypatch.setattr(seg_checks, "print_log", lambda *_: None)
    cfg = Config.fromfile(FOLDER / "shapes_semantic.py")
    train = _build(cfg, "train_dataloader", root)
    assert train.metainfo["classes"][0] == "background" and len(train.metainfo["palette"]) == 6
    assert [tuple(sample["inputs"].shape) for sample in train] == [(3, 128, 128)] * 4
    val = _build(cfg, "val_dataloader", root)
    assert [tuple(sample["inputs"].shape) for sample in val] == [(3, 128, 128)] * 2
    assert max(int(sample["data_samples"].gt_sem_seg.data.max()) for sample in val) == 5


def test_coco_stuff_as_it_is_prepared(tmp_path: Path) -> None:
    cfg = Config.fromfile(FOLDER / "coco_stuff164k_896.py")
    with pytest.raises(InputError, match=r"check data_root .*dataset_converters/coco_stuff164k.py"):
        _build(cfg, "train_dataloader", tmp_path)
    for split in ("train2017", "val2017"):
        for folder in ("images", "annotations"):
            (tmp_path / folder / split).mkdir(parents=True)
        labels = np.full((500, 640), 170, np.uint8)
        labels[:100] = 255
        Image.new("RGB", (640, 500)).save(tmp_path / "images" / split / "7.jpg")
        Image.fromarray(labels).save(
            tmp_path / "annotations" / split / "7_labelTrainIds.png",
        )
    (sample,) = _build(cfg, "val_dataloader", tmp_path)
    assert tuple(sample["inputs"].shape[1:]) == (896, 1147)
    labels = sample["data_samples"].gt_sem_seg.data
    assert labels.shape == (1, 500, 640) and labels.unique().tolist() == [170, 255]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_[5689]??.py")), ids=lambda path: path.stem)
def test_all_score_with_the_exact_metric(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.val_dataloader.dataset.test_mode and cfg.test_evaluator == cfg.val_evaluator
    assert type(METRICS.build(cfg.val_evaluator)).__module__ == "mmbeit3.evaluation.iou_metric"
