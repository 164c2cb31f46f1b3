"""Class maps on disk, and their shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.inference.folder import check_folders
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.seg_classes import SegClasses
from mmbeit3.inference.segmentation_result import SegmentationResult
from mmbeit3.inference.segmentation_task import SegmentationTask
from mmbeit3.inference.segmentation_writer import SegmentationWriter
from mmbeit3.utils import InputError

CLASSES = SegClasses(("a", "b", "c"), [(3, 2, 1), (6, 5, 4), (9, 8, 7)], 1)


def result(source: Source, labels: np.ndarray, classes: SegClasses) -> SegmentationResult:
    image = np.zeros((*labels.shape, 3), np.uint8)
    labels = labels.astype(np.uint8)
    return SegmentationResult(source, image, labels, classes.names, classes.palette)


@pytest.mark.parametrize("num_classes", [2, 16, 17, 256])
def test_class_map_is_8_bit_with_a_palette(tmp_path, num_classes):
    palette = [(index, 0, 255 - index) for index in range(num_classes)]
    classes = SegClasses(tuple(map(str, range(num_classes))), palette, 0)
    labels = np.arange(20 * 30, dtype=int).reshape(20, 30) % num_classes
    source = Source(1, None, "a.png", None)
    result(source, labels, classes).save_label_map(tmp_path / "b" / "a.png")
    data = (tmp_path / "b" / "a.png").read_bytes()
    assert data[24] == 8 and data[25] == 3  # the header: bits per pixel, colors by a palette
    with Image.open(tmp_path / "b" / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)
        rgb = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(rgb[..., ::-1], np.array(palette)[labels])


def test_shares(tmp_path):
    results = SegmentationWriter(tmp_path, CLASSES)
    maps = [np.array([[0, 0, 2, 2], [2, 2, 2, 0]]), np.array([[0, 0]])]
    entries = []
    for number, labels in enumerate(maps, 1):
        source = Source(number, Path("x"), "x.png", None, {"label": f"labels/{number}.png"})
        entries.append(results.add(results.write(result(source, labels, CLASSES))))
    assert entries[0] == {"label": "labels/1.png", "shares": {"c": 0.625, "a": 0.375}}
    assert entries[1] == {"label": "labels/2.png", "shares": {"a": 1.0}}
    classes = results.summary()["classes"]
    assert [entry["pixels"] for entry in classes] == [5, 0, 5]
    assert [entry["share"] for entry in classes] == [0.5, 0, 0.5]
    assert classes[1] == {"index": 1, "name": "b", "color": [4, 5, 6], "pixels": 0, "share": 0.0}
    rows = results.rows(results.summary())
    assert rows == [("share of pixels", ""), ("  a", "50.00%"), ("  c", "50.00%")]
    assert not (tmp_path / "overlays").exists()


@pytest.mark.parametrize(("offset", "said"), [(0, "index i"), (1, "i + 1"), (None, "another way")])
def test_what_the_values_mean(tmp_path, offset, said):
    classes = SegClasses(CLASSES.names, CLASSES.palette, offset)
    assert (
        SegmentationWriter(tmp_path, classes)
        .summary()["label_values"]
        .endswith({0: "index i", 1: "0 for no class"}.get(offset, "another way"))
    )
    assert said in SegmentationWriter(tmp_path, classes).summary()["label_values"]


def test_masks_of_another_origin_are_not_overwritten(tmp_path):
    check_folders(SegmentationTask(), tmp_path)
    (tmp_path / "labels").mkdir()
    check_folders(SegmentationTask(), tmp_path)
    (tmp_path / "labels" / "a.png").touch()
    summary = tmp_path / "summary.json"
    for content in (None, "no json", "[]", json.dumps({"task": "detection"})):
        if content is not None:
            summary.write_text(content)
        with pytest.raises(InputError, match="choose another out_dir"):
            check_folders(SegmentationTask(), tmp_path)
    summary.write_text(json.dumps({"task": "segmentation"}))
    check_folders(SegmentationTask(), tmp_path)
