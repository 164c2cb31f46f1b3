"""Images that the pipeline cannot resize or load are named before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmbeit3.config.data_checks import check_training_data
from mmbeit3.datasets.checks.sizes import find_size_problems
from mmbeit3.datasets.image_files import ImageFile
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DETECTION = "_base_/datasets/coco_instance_lsj-1024.py"
SEGMENTATION = "_base_/datasets/ade20k_512.py"


def transforms(name: str, pipeline: str) -> list[Any]:
    init_default_scope("mmseg" if name == SEGMENTATION else "mmdet")
    return Compose(Config.fromfile(CONFIGS / name)[pipeline]).transforms


# By the numbers: at a tenth of 1024 a long side has 102 pixels, and half a pixel is rounded up.
@pytest.mark.parametrize(
    ("name", "pipeline", "good", "bad"),
    [
        (DETECTION, "train_pipeline", [(900, 5), (2, 400), (640, 480)], [(900, 1), (3000, 2)]),
        (DETECTION, "test_pipeline", [(900, 1), (2, 3000)], [(1, 3000), (9000, 2)]),
        (SEGMENTATION, "train_pipeline", [(900, 1), (2, 3000)], [(9000, 2), (2, 20000)]),
        (SEGMENTATION, "test_pipeline", [(900, 1), (2, 3000)], [(9000, 2), (2, 20000)]),
        (SEGMENTATION, "tta_pipeline", [(900, 1), (2, 1000)], [(9000, 2), (2, 20000)]),
    ],
)
def test_the_rule_is_that_of_the_pipeline(
    name: str, pipeline: str, good: list[tuple[int, int]], bad: list[tuple[int, int]]
) -> None:
    files = [ImageFile(f"{number}.jpg", *size) for number, size in enumerate([*good, *bad])]
    problems = find_size_problems(files, transforms(name, pipeline))
    assert [text.split()[0] for text in problems] == [file.path for file in files[len(good) :]]
    assert f"is {bad[0][0]} x {bad[0][1]}, which the pipeline's R" in problems[0]


def test_without_a_resize_every_size_is_good() -> None:
    assert find_size_problems([ImageFile("a.jpg", 9000, 1)], []) == []


def coco(root: Path, split: str, size: tuple[int, int]) -> dict:
    """A data set of one image of this size, and one of a usual size."""
    (root / split).mkdir(parents=True)
    images, annotations = [], []
    for number, (width, height) in enumerate([(64, 48), size], 1):
        Image.new("RGB", (width, height)).save(root / split / f"{number}.png")
        name = f"{number}.png"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        box = [0, 0, min(width, 20), min(height, 20)]
        one = {"id": number, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
        mask = [0, 0, box[2], 0, box[2], box[3], 0, box[3]]
        annotations.append(one | {"area": box[2] * box[3], "segmentation": [mask]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / f"{split}.json").write_text(json.dumps(content))
    return dict(
        type="mmbeit3.CocoDataset",
        ann_file=str(root / f"{split}.json"),
        data_prefix=dict(img=str(root / split)),
        test_mode=split != "train",
    )


@pytest.mark.parametrize("narrow", ["train", "val"])
def test_narrow_images_are_named_before_training(tmp_path: Path, narrow: str) -> None:
    base = Config.fromfile(CONFIGS / DETECTION)
    cfg = Config(dict(default_scope="mmdet"))
    for split, pipeline in (("train", base.train_pipeline), ("val", base.test_pipeline)):
        size = (3, 9000) if split == narrow else (900, 900)
        dataset = coco(tmp_path, split, size) | dict(pipeline=pipeline)
        cfg[f"{split}_dataloader"] = dict(dataset=dataset)
    with pytest.raises(InputError) as caught:
        check_training_data(cfg)
    assert f"{narrow}_dataloader.dataset" in str(caught.value)
    assert "2.png is 3 x 9000" in str(caught.value)


def seg(root: Path, image: tuple[int, int], suffix: str = ".png", **changes: Any) -> Any:
    """Build a data set of one image of this size, and one of a usual size."""
    init_default_scope("mmseg")
    for number, size in enumerate([(64, 48), image], 1):
        for folder in ("images", "maps"):
            (root / folder).mkdir(exist_ok=True)
        Image.new("RGB", size).save(root / "images" / f"{number}{suffix}")
        labels = np.arange(size[0] * size[1]).reshape(size[::-1]) % 2
        Image.fromarray(labels.astype(np.uint8)).save(root / "maps" / f"{number}.png")
    settings = dict(
        type="mmbeit3.SegFolderDataset",
        data_prefix=dict(img_path=str(root / "images"), seg_map_path=str(root / "maps")),
        metainfo=dict(classes=("a", "b")),
        reduce_zero_label=False,
        pipeline=Config.fromfile(CONFIGS / SEGMENTATION).train_pipeline,
    )
    return DATASETS.build(settings | changes)


@pytest.mark.parametrize("test_mode", [False, True])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((9000, 2), r"images.2.png is 9000 x 2, which the pipeline's RandomChoiceResize cannot"),
        ((1, 1), r"maps.2.png is 1 x 1; mmseg loads no map of one row or column"),
        ((900, 1), r"maps.2.png is 900 x 1; mmseg loads no map"),
        ((1, 7), r"maps.2.png is 1 x 7; mmseg loads no map"),
    ],
)
def test_narrow_images_and_maps_of_segmentation_are_named(
    tmp_path: Path, size: tuple[int, int], message: str, test_mode: bool
) -> None:
    with pytest.raises(InputError, match=message):
        seg(tmp_path, size, test_mode=test_mode)


def test_small_maps_are_good(tmp_path: Path) -> None:
    dataset = seg(tmp_path, (2, 2))
    assert len(dataset) == 2 and dataset[1]["inputs"].ndim == 3


def test_what_the_transform_of_mmcv_cannot_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    dataset = coco(tmp_path / "data", "train", (64, 64))
    pixels = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    Image.fromarray(pixels).save(tmp_path / "data" / "train" / "2.tif")  # Pillow alone reads it
    file = Path(dataset["ann_file"])
    file.write_text(file.read_text().replace("2.png", "2.tif"))
    init_default_scope("mmdet")
    pack = dict(type="PackDetInputs")
    DATASETS.build(dataset | dict(pipeline=[dict(type="mmbeit3.LoadImageFromFile"), pack]))
    with pytest.raises(InputError, match=r"2.tif cannot be read: .* but mmbeit3.LoadImageFromFile"):
        DATASETS.build(dataset | dict(pipeline=[dict(type="LoadImageFromFile"), pack]))
