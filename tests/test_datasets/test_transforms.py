"""The training transforms give what mm's give: the same draws, pixels, boxes and labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms.utils import cache_random_params
from mmdet.datasets.transforms import PackDetInputs
from mmdet.datasets.transforms import RandomCrop as MMDetRandomCrop
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope
from mmseg.datasets.transforms import PackSegInputs
from mmseg.datasets.transforms import PhotoMetricDistortion as MMSegPhotoMetricDistortion
from mmseg.datasets.transforms import RandomCrop as MMSegRandomCrop

from mmbeit3.datasets.transforms import (
    ChannelsFirst,
    ContiguousImage,
    PhotoMetricDistortion,
    PolygonRandomCrop,
    SegRandomCrop,
)
from mmbeit3.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# What stands in mm's own pipelines; None: nothing does.
MM_TYPES = {
    "mmbeit3.ContiguousImage": None,
    "mmbeit3.ChannelsFirst": None,
    "mmbeit3.PolygonRandomCrop": "RandomCrop",
    "mmbeit3.SegRandomCrop": "RandomCrop",
    "mmbeit3.PhotoMetricDistortion": "PhotoMetricDistortion",
}
VIEWS = {
    "plain": lambda image: image,
    "crop": lambda image: image[3:30, 5:33],
    "horizontal": lambda image: np.flip(image, 1),
    "vertical": lambda image: np.flip(image, 0)[:, 4:],
    "diagonal": lambda image: np.flip(image, (0, 1))[2:],
}


def _image(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50, 1), (40, 50)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("view", VIEWS)
def test_contiguous_image(view: str, dtype: type, shape: tuple[int, ...]) -> None:
    image = VIEWS[view](_image(*shape, dtype=dtype))
    result = ContiguousImage()({"img": image})["img"]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, image)
    assert min(result.strides) > 0
    if view in ("plain", "crop"):
        assert result is image


@pytest.mark.parametrize("pack", [PackDetInputs, PackSegInputs])
@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50, 1), (40, 50)])
@pytest.mark.parametrize("view", VIEWS)
def test_channels_first(view: str, shape: tuple[int, ...], pack: type) -> None:
    image = VIEWS[view](_image(*shape))
    results = ChannelsFirst()({"img": image})
    np.testing.assert_array_equal(results["img"], image)
    inputs = pack(meta_keys=())(dict(results))["inputs"]
    assert torch.equal(inputs, pack(meta_keys=())({"img": image.copy()})["inputs"])
    assert inputs.is_contiguous()
    if len(shape) == 3:
        assert np.shares_memory(inputs.numpy(), results["img"])


# ---------------------------------------------------------------- polygons


def _star(rng: np.random.Generator, center: np.ndarray, radius: float) -> np.ndarray:
    """A polygon that does not cross itself: points at rising angles."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 20)))
    radii = radius * rng.uniform(0.3, 1, len(angles))
    return (center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).ravel()


def _objects(seed: int, num_objects: int = 30) -> dict:
    """A 200 x 300 image with objects of one to three polygons, and boxes around them."""
    rng = np.random.default_rng(seed)
    masks = [
        [
            _star(rng, rng.uniform(0, 1, 2) * (300, 200), rng.uniform(3, 60))
            for _ in range(rng.integers(1, 4))
        ]
        for _ in range(num_objects)
    ]
    masks = PolygonMasks(masks, 200, 300)
    return {
        "img": _image(200, 300, 3, seed=seed),
        "gt_masks": masks,
        "gt_bboxes": masks.get_bboxes("hbox"),
        "gt_bboxes_labels": np.arange(num_objects),
        "gt_ignore_flags": np.zeros(num_objects, bool),
    }


def _rasters(masks: PolygonMasks) -> np.ndarray:
    return masks.to_ndarray().astype(bool)


def _crop(cls: type, results: dict, seed: int, **options: object) -> dict:
    np.random.seed(seed)
    defaults = {"crop_size": (120, 90), "recompute_bbox": True, "allow_negative_crop": True}
    return cls(**defaults | options)(results)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_crop_of_polygons(seed: int, recompute: bool) -> None:
    ours = _crop(PolygonRandomCrop, _objects(seed), seed, recompute_bbox=recompute)
    mmdet = _crop(MMDetRandomCrop, _objects(seed), seed, recompute_bbox=recompute)
    assert ours["img_shape"] == mmdet["img_shape"] == (90, 120)
    np.testing.assert_array_equal(ours["img"], mmdet["img"])
    np.testing.assert_array_equal(ours["gt_bboxes_labels"], mmdet["gt_bboxes_labels"])
    np.testing.assert_allclose(ours["gt_bboxes"].numpy(), mmdet["gt_bboxes"].numpy(), atol=1e-3)
    masks = ours["gt_masks"]
    assert type(masks) is PolygonMasks and (masks.height, masks.width) == (90, 120)
    assert len(masks) == len(mmdet["gt_masks"]) >= 10
    assert all(part.dtype == np.float64 for parts in masks for part in parts)
    difference = _rasters(masks) != _rasters(mmdet["gt_masks"])
    assert difference.sum() <= 1e-4 * _rasters(masks).sum() + 2  # shapely turns polygons around


def test_crop_keeps_polygons_that_cross_themselves() -> None:
    bow_tie = np.array([20, 20, 80, 70, 80, 20, 20, 70])  # integers, as some tools write them
    results = _objects(0, 1) | {"gt_masks": PolygonMasks([[bow_tie]], 200, 300)}
    results["gt_bboxes"] = HorizontalBoxes([[20.0, 20, 80, 70]])
    ours = _crop(PolygonRandomCrop, results, 0, crop_size=(300, 200))
    np.testing.assert_array_equal(ours["gt_masks"].masks[0][0], bow_tie)
    assert ours["gt_masks"].masks[0][0].dtype == np.float64
    assert ours["gt_bboxes"].tensor.tolist() == [[20, 20, 80, 70]]


def test_crop_of_objects_that_are_not_inside() -> None:
    apart = np.array([[150.0, 150, 170, 150, 170, 170]])
    touching = np.array([100.0, 20, 140, 20, 140, 40])  # its left edge is the border of the crop
    around = np.array([-10.0, -10, 310, -10, 310, 210, -10, 210])
    results = _objects(0, 3) | {
        "img": _image(100, 100, 3),
        "gt_masks": PolygonMasks([[apart[0]], [touching], [around]], 200, 300),
        "gt_bboxes": HorizontalBoxes([[0.0, 0, 50, 50]] * 3),
    }
    masks = PolygonRandomCrop(crop_size=(100, 100), allow_negative_crop=True)(results)["gt_masks"]
    assert not masks.masks[0][0].any() and not masks.masks[1][0].any()
    assert _rasters(masks)[2].all()


@pytest.mark.parametrize("kind", ["bitmaps", "nothing", "no masks"])
def test_crop_of_other_masks(kind: str) -> None:
    def results() -> dict:
        content = _objects(3, 0 if kind == "nothing" else 20)
        masks = content.pop("gt_masks")
        if kind == "nothing":
            content["gt_masks"] = PolygonMasks([], 200, 300)
        elif kind == "bitmaps":
            content["gt_masks"] = BitmapMasks(masks.to_ndarray(), 200, 300)
        return content

    recompute = kind == "bitmaps"
    ours = _crop(PolygonRandomCrop, results(), 5, recompute_bbox=recompute)
    mmdet = _crop(MMDetRandomCrop, results(), 5, recompute_bbox=recompute)
    assert torch.equal(ours["gt_bboxes"].tensor, mmdet["gt_bboxes"].tensor)
    if kind != "no masks":
        np.testing.assert_array_equal(ours["gt_masks"].to_ndarray(), mmdet["gt_masks"].to_ndarray())


# ---------------------------------------------------------------- semantic segmentation


def _labels(seed: int, dtype: type = np.uint8) -> np.ndarray:
    """Blocks of 40 pixels, most of them of one class or of none (255)."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([3, 7, 150, 255], (6, 8), p=[0.7, 0.1, 0.05, 0.15])
    return np.kron(blocks, np.ones((40, 40))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("options", [{"cat_max_ratio": 0.75}, {}, {"cat_max_ratio": 0.4}])
def test_crop_of_label_maps(options: dict, dtype: type) -> None:
    boxes = set()
    for seed in range(40):
        labels = _labels(seed, dtype)
        results = {"img": _image(240, 320, 3), "gt_seg_map": labels, "seg_fields": ["gt_seg_map"]}
        found = []
        for cls in (SegRandomCrop, MMSegRandomCrop):
            np.random.seed(seed)
            crop = cls((100, 120), **options)
            found.append((*crop.crop_bbox(results), np.random.randint(1 << 30)))  # the next draw
        assert found[0] == found[1]
        boxes.add(found[0])
    assert len(boxes) == 40
    np.random.seed(0)
    cropped = SegRandomCrop((100, 120))(results)
    assert cropped["img"].shape[:2] == cropped["gt_seg_map"].shape == (100, 120)


def test_a_draw_can_be_shared() -> None:
    crop = SegRandomCrop((100, 120), cat_max_ratio=0.75)
    results = {"img": _image(240, 320, 3), "gt_seg_map": _labels(0)}
    with cache_random_params(crop):
        boxes = {crop.transform(dict(results))["img"].tobytes() for _ in range(2)}
    assert len(boxes) == 1
    mmseg = MMSegRandomCrop((100, 120))
    with cache_random_params(mmseg):  # ours left it as it was
        assert mmseg.transform(dict(results))["img"].shape == (100, 120, 3)


@pytest.mark.parametrize("view", VIEWS)
def test_photometric_distortion(view: str) -> None:
    options = {"brightness_delta": 40, "contrast_range": (0.3, 1.8), "hue_delta": 16}
    changed = 0
    for seed in range(40):
        image = VIEWS[view](_image(40, 50, 3, seed=seed))
        found = []
        for cls in (PhotoMetricDistortion, MMSegPhotoMetricDistortion):
            np.random.seed(seed)
            found.append(cls(**options)({"img": image.copy() if view == "plain" else image})["img"])
        np.testing.assert_array_equal(*found)
        changed += not np.array_equal(found[0], image)
    assert changed > 30


# ---------------------------------------------------------------- whole pipelines


def _mm_pipeline(steps: list[dict]) -> list[dict]:
    kinds = [MM_TYPES.get(step["type"], step["type"]) for step in steps]
    return [{**step, "type": kind} for step, kind in zip(steps, kinds, strict=True) if kind]


@pytest.mark.parametrize("name", ["lsj-1024_coco", "lsj-1280", "custom"])
def test_detection_pipelines_equal_mmdet(data_root: Path, name: str) -> None:
    init_default_scope("mmdet")
    file = {
        "lsj-1024_coco": "_base_/datasets/coco_instance_lsj-1024.py",
        "lsj-1280": "_base_/datasets/coco_instance_lsj-1280.py",
        "custom": "beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py",
    }[name]
    steps = Config.fromfile(CONFIGS / file).train_pipeline
    assert len(_mm_pipeline(steps)) == len(steps) - 2
    pair = [
        DATASETS.build(
            {
                "type": "mmbeit3.CocoDataset",
                "data_root": str(data_root / "coco_sample"),
                "ann_file": "annotations/instances_train2017.json",
                "data_prefix": {"img": "train2017/"},
                "filter_cfg": {"filter_empty_gt": True},
                "pipeline": pipeline,
                "indices": 12,
            }
        )
        for pipeline in (steps, _mm_pipeline(steps))
    ]
    for index in range(12):
        samples = []
        for dataset in pair:
            np.random.seed(index)
            samples.append(dataset[index])
        ours, mmdet = (sample["data_samples"].gt_instances for sample in samples)
        assert torch.equal(*(sample["inputs"] for sample in samples))
        assert torch.equal(ours.labels, mmdet.labels)
        torch.testing.assert_close(ours.bboxes.tensor, mmdet.bboxes.tensor, atol=1e-3, rtol=0)
        shapes = [instances.masks.to_ndarray().astype(bool) for instances in (ours, mmdet)]
        if len(ours):
            assert (shapes[0] != shapes[1]).sum() <= 2e-3 * shapes[0].sum()


def test_segmentation_pipeline_equals_mmseg(data_root: Path) -> None:
    init_default_scope("mmseg")
    steps = Config.fromfile(CONFIGS / "_base_/datasets/coco_stuff164k_896.py").train_pipeline
    folder = data_root / "ade20k_sample"
    for index, path in enumerate(sorted((folder / "images" / "validation").glob("*.jpg"))[:6]):
        label_map = folder / "annotations" / "validation" / f"{path.stem}.png"
        samples = []
        for pipeline in (steps, _mm_pipeline(steps)):
            np.random.seed(index)
            sample = {"img_path": str(path), "seg_map_path": str(label_map), "seg_fields": []}
            sample |= {"reduce_zero_label": False, "label_map": None}
            for step in pipeline:
                sample = TRANSFORMS.build({"_scope_": "mmseg", **step})(sample)
            samples.append(sample)
        assert torch.equal(*(sample["inputs"] for sample in samples))
        assert torch.equal(*(sample["data_samples"].gt_sem_seg.data for sample in samples))


def test_opencv_writes_channels_where_it_is_told() -> None:
    image, planes = _image(30, 40, 3), np.zeros((3, 30, 40), np.uint8)
    cv2.split(image, list(planes))
    np.testing.assert_array_equal(planes, image.transpose(2, 0, 1))
