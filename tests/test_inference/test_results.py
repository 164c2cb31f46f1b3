"""Results, and the forms in which others take them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import mmbeit3
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.segmentation_result import SegmentationResult
from mmbeit3.utils import InputError
from mmbeit3.utils.optional_packages import optional_package


@pytest.fixture
def image() -> Image.Image:
    """A large red rectangle and a small green one."""
    image = Image.new("RGB", (40, 30))
    image.paste("red", (2, 3, 22, 19))
    image.paste((0, 255, 0), (30, 20, 38, 28))
    return image


@pytest.fixture
def found(color_cfg, color_checkpoint, image) -> DetectionResult:
    return mmbeit3.load(color_cfg, color_checkpoint, device="cpu")(image)


@pytest.fixture
def segmented(seg_cfg, seg_checkpoint, image) -> SegmentationResult:
    return mmbeit3.load(seg_cfg, seg_checkpoint, device="cpu")(image)


def test_detections_as_coco(found: DetectionResult) -> None:
    first, second = found.to_coco(image_id=17)
    assert first["image_id"] == 17 and found.to_coco()[0]["image_id"] == 1
    assert (first["category_id"], first["category"], first["bbox"]) == (
        1,
        "red thing",
        [2, 3, 20, 16],
    )
    assert second["score"] == pytest.approx(0.2)
    assert np.array_equal(coco_mask.decode(second["segmentation"]), found.masks[1])


def test_detections_as_json(found: DetectionResult) -> None:
    content = json.loads(found.to_json())
    assert (content["height"], content["width"], content["path"]) == (30, 40, None)
    assert content["detections"] == found.to_coco()


def test_some_of_the_detections(found: DetectionResult) -> None:
    sure = found[found.scores >= 0.5]
    assert sure.names == ["red thing"] and sure.masks.shape == (1, 30, 40)
    assert found[::-1].names == ["green thing", "red thing"]
    assert repr(found) == "DetectionResult(image 1: 1 red thing, 2 of any score)"
    assert repr(found[:0]) == "DetectionResult(image 1: nothing)"
    with pytest.raises(TypeError):
        iter(found)


def test_detectors_without_masks(color_cfg, color_checkpoint, image) -> None:
    color_cfg.model.masks = False
    found = mmbeit3.load(color_cfg, color_checkpoint, device="cpu")(image)
    assert found.masks is None and "segmentation" not in found.to_coco()[0]
    assert len(found[:1].boxes) == 1 and found.draw().ndim == 3


def test_pictures(found: DetectionResult, segmented: SegmentationResult, tmp_path: Path) -> None:
    before = found.image.copy()
    for result in (found, segmented):
        picture = result.draw()
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        result.save(tmp_path / "new" / "a.png")
        for content in ((tmp_path / "new" / "a.png").read_bytes(), result._repr_png_()):
            shown = np.asarray(Image.open(io.BytesIO(content)))
            assert np.array_equal(shown, result.draw(channels="rgb"))
        with pytest.raises(InputError, match=r"suffix '.tif'; expected .jpg or .png"):
            result.save(tmp_path / "a.tif")
    assert np.array_equal(found.image, before)
    assert not np.array_equal(found.draw(score_thr=0.1), found.draw())
    found.save(tmp_path / "all.png", score_thr=0.1)
    assert not np.array_equal(Image.open(tmp_path / "all.png"), found.draw(channels="rgb"))


def test_class_maps(segmented: SegmentationResult) -> None:
    assert segmented.label_map.shape == (30, 40) and segmented.label_map.dtype == np.uint8
    assert segmented.names == ["dark", "red thing", "green thing"]
    assert segmented.shares == {"dark": 0.68, "red thing": 0.266667, "green thing": 0.053333}
    entries = segmented.to_coco(image_id=3)
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [
        (3, 1),
        (3, 2),
        (3, 3),
    ]
    for label, entry in enumerate(entries):
        mask = coco_mask.decode(entry["segmentation"])
        assert np.array_equal(mask, segmented.label_map == label)
    content = json.loads(segmented.to_json())
    assert content["segments"] == segmented.to_coco() and content["shares"] == segmented.shares
    assert repr(segmented) == (
        "SegmentationResult(image 1: 68% dark, 27% red thing, 5% green thing)"
    )


def test_tables(found: DetectionResult, segmented: SegmentationResult) -> None:
    pytest.importorskip("pandas")
    table = found.to_pandas()
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name"]
    assert table[table.score > 0.5].name.tolist() == ["red thing"]
    assert table[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == found.boxes.tolist()
    assert len(found[:0].to_pandas()) == 0
    table = segmented.to_pandas()
    assert table.name.tolist() == segmented.names and table.pixels.sum() == 30 * 40


def test_supervision(found: DetectionResult, segmented: SegmentationResult) -> None:
    pytest.importorskip("supervision")
    other = found.to_supervision()
    assert np.array_equal(other.xyxy, found.boxes) and np.array_equal(other.mask, found.masks)
    assert other[other.confidence > 0.5].data["class_name"].tolist() == ["red thing"]
    assert len(found[:0].to_supervision()) == 0
    other = segmented.to_supervision()
    assert other.class_id.tolist() == [0, 1, 2]
    assert other.xyxy.tolist() == [[0, 0, 40, 30], [2, 3, 22, 19], [30, 20, 38, 28]]
    assert other.area.tolist() == [816, 320, 64]


def test_packages_that_are_not_there() -> None:
    with pytest.raises(InputError, match="to_x needs no_such_package .*: pip install no_such"):
        optional_package("no_such_package", "to_x")
