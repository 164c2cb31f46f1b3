"""Configs of pairs of image and text: bases read their data, and a tiny one trains on shapes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmbeit3.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOLDER = CONFIGS / "beit3_retrieval"


def write_images(folder: Path, names: list[str]) -> None:
    draw = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), draw.integers(0, 256, (60, 80, 3), np.uint8))


def karpathy(rows: list[tuple[str, str, str]]) -> str:
    """A file of Karpathy's splits: folder, name and split of each image."""
    images = [
        {
            "filepath": folder,
            "filename": name,
            "split": split,
            "imgid": index,
            "sentences": [{"raw": f"a {j}", "sentid": 5 * index + j} for j in range(5)],
        }
        for index, (folder, name, split) in enumerate(rows)
    ]
    return json.dumps({"images": images})


def make_coco(root: Path) -> list[int]:
    rows = [
        ("train2014", "a.jpg", "train"),
        ("val2014", "b.jpg", "restval"),
        ("val2014", "c.jpg", "val"),
        ("val2014", "d.jpg", "test"),
        ("val2014", "e.jpg", "test"),
    ]
    write_images(root, [f"{folder}/{name}" for folder, name, _ in rows])
    (root / "dataset_coco.json").write_text(karpathy(rows))
    return [10, 1, 2]


def make_flickr30k(root: Path) -> list[int]:
    rows = [("", "a.jpg", "train"), ("", "b.jpg", "val"), ("", "c.jpg", "test")]
    write_images(root / "flickr30k-images", [name for _, name, _ in rows])
    (root / "dataset_flickr30k.json").write_text(karpathy(rows))
    return [5, 1, 1]


def make_custom(root: Path) -> list[int]:
    write_images(root / "images", ["a.jpg", "b.jpg"])
    (root / "train.csv").write_text("image,text\na.jpg,x\na.jpg,y\nb.jpg,z\n")
    (root / "val.csv").write_text("image,text\na.jpg,x\na.jpg,y\nb.jpg,z\n")
    return [3, 2, 2]


def make_nocaps(root: Path) -> list[int]:
    numbers = make_coco(root)
    write_images(root / "val", ["n.jpg"])
    data = {
        "images": [{"id": 0, "file_name": "n.jpg", "width": 80, "height": 60}],
        "annotations": [{"id": j, "image_id": 0, "caption": f"a {j}"} for j in range(10)],
    }
    (root / "nocaps_val_4500_captions.json").write_text(json.dumps(data))
    return [numbers[0], 1, 1]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("coco_retrieval_384", make_coco),
        ("flickr30k_retrieval_384", make_flickr30k),
        ("custom_retrieval_384", make_custom),
        ("coco_captioning_480", make_coco),
        ("nocaps_captioning_480", make_nocaps),
        ("custom_captioning_480", make_custom),
    ],
)
def test_bases_read_their_data(name: str, make: object, tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIGS / "_base_" / "datasets" / f"{name}.py")
    expected = make(tmp_path)
    found, size = [], int(name[-3:])
    for split in ("train", "val", "test"):
        settings = cfg[f"{split}_dataloader"].dataset
        settings.data_root = str(tmp_path)
        with DefaultScope.overwrite_default_scope("mmbeit3"):
            dataset = DATASETS.build(settings)
        found.append(len(dataset))
        packed = dataset[0]
        assert packed["inputs"].shape == (3, size, size)
        assert dataset.test_mode == (split != "train")
    assert found == expected


def test_released_transforms() -> None:
    cfg = Config.fromfile(CONFIGS / "_base_" / "datasets" / "coco_retrieval_384.py")
    crop, flip = cfg.train_pipeline[1:3]
    assert crop.crop_ratio_range == (0.5, 1.0) and flip.prob == 0.5
    resize = cfg.test_pipeline[1]
    assert (resize.scale, resize.keep_ratio) == ((384, 384), False)
    assert (resize.interpolation, resize.backend) == ("bicubic", "pillow")
