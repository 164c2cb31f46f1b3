"""Every format gives back what it was given, but for what it says that it does not hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets.label_formats import FORMATS, read_labels, write_labels
from mmbeit3.datasets.label_formats.labels import Labels
from mmbeit3.datasets.label_formats.outlines import bitmap, encode
from mmbeit3.utils import InputError

READABLE = ["coco", "voc", "yolo", "labelme", "csv", "geojson", "label-studio", "cvat"]
SUFFIX = {"coco": ".json", "csv": ".csv", "label-studio": ".json", "cvat": ".xml"}
PRECISION = {"voc": 0.5, "yolo": 1e-5}  # pixels; of the others 1e-6


def place(tmp_path: Path, name: str) -> Path:
    return tmp_path / f"out {name}{SUFFIX.get(name, '')}"


def pairs(before: Labels, after: Labels):
    found = {image.name: image for image in after.images}
    assert found.keys() == {image.name for image in before.images}
    for image in before.images:
        again = found[image.name]
        assert (image.width, image.height) == (again.width, again.height)
        assert [each.name for each in image.objects] == [each.name for each in again.objects]
        for one, other in zip(image.objects, again.objects, strict=True):
            yield image, one, other


def iou(image, one, other) -> float:
    here, there = bitmap(one, image), bitmap(other, image)
    return (here & there).sum() / (here | there).sum()


@pytest.mark.parametrize("name", READABLE)
def test_boxes(name: str, labels: Labels, tmp_path: Path) -> None:
    for image in labels.images:
        image.objects = [replace(found, mask=None, is_crowd=False) for found in image.objects]
    path = place(tmp_path, name)
    notes = write_labels(labels, path, name)
    assert not [note for note in notes if "mask" in note or "crowd" in note]
    again = read_labels(path, images=labels.root)
    limit = PRECISION.get(name, 1e-6)
    for _, one, other in pairs(labels, again):
        assert np.abs(np.subtract(one.box, other.box)).max() <= limit
        assert other.mask is None
    assert set(again.classes) >= {"dog", "cat", "Übung, <b>&"}


@pytest.mark.parametrize("name", [name for name in READABLE if "masks" in FORMATS[name].holds])
def test_masks(name: str, labels: Labels, tmp_path: Path) -> None:
    path = place(tmp_path, name)
    notes = " ".join(write_labels(labels, path, name))
    again = read_labels(path, images=labels.root)
    for image, one, other in pairs(labels, again):
        if one.mask is None and name != "yolo":
            assert other.mask is None
            assert np.abs(np.subtract(one.box, other.box)).max() < 1e-6
        else:
            assert iou(image, one, other) == 1
        if "crowds" in FORMATS[name].holds:
            assert one.is_crowd == other.is_crowd
    assert ("crowd" in notes) == ("crowds" not in FORMATS[name].holds)
    if name == "yolo":
        assert "written as the polygon of their box: 2" in notes
        assert "joined to one polygon: 3" in notes
    if name in ("coco", "yolo", "cvat"):  # Label Studio has them in the interface
        assert again.classes == labels.classes


@pytest.mark.parametrize("name", ["coco", "csv", "geojson", "label-studio"])
def test_scores(name: str, labels: Labels, tmp_path: Path) -> None:
    for image in labels.images:
        image.objects = [replace(found, score=0.123456) for found in image.objects]
    labels.are_predictions = True
    path = place(tmp_path, name)
    assert not [note for note in write_labels(labels, path, name) if "score" in note]
    again = read_labels(path, images=labels.root)
    assert all(other.score == 0.123456 for _, _, other in pairs(labels, again))
    assert not list(read_labels(path, images=labels.root, score_thr=0.2).objects())


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_held_is_said_once(name: str, labels: Labels, tmp_path: Path) -> None:
    if FORMATS[name].write is None:
        return
    for image in labels.images:
        image.objects = [replace(found, score=0.5) for found in image.objects]
    notes = write_labels(labels, place(tmp_path, name), name)
    numbers = {"masks": 4, "scores": 6, "crowds": 1, "classes": 1}
    for kind, text in (
        ("masks", "objects with a mask"),
        ("scores", "objects with a score"),
        ("crowds", "crowds, which"),
        ("classes", "classes without an object"),
    ):
        said = [note for note in notes if text in note]
        assert len(said) == (kind not in FORMATS[name].holds), notes
        assert all(f": {numbers[kind]}" in note for note in said)


@pytest.mark.parametrize("name", ["coco", "csv", "geojson", "label-studio", "cvat", "voc"])
def test_sizes_are_known_without_images(name: str, labels: Labels, tmp_path: Path) -> None:
    path = place(tmp_path, name)
    write_labels(labels, path, name)
    assert len(list(pairs(labels, read_labels(path)))) == 6


def test_class_maps(labels: Labels, tmp_path: Path) -> None:
    notes = write_labels(labels, tmp_path / "maps", "png")
    assert (tmp_path / "maps/classes.txt").read_text().splitlines() == [
        "background",
        *labels.classes,
    ]
    pixels = np.array(Image.open(tmp_path / "maps/masks/plain.png"))
    assert pixels.shape == (80, 100)
    assert pixels[70, 90] == 4  # the whole image, below the others
    assert pixels[8, 20] == 2
    assert set(np.unique(Image.open(tmp_path / "maps/masks/sub dir/größe 1.png"))) == {0, 1}
    assert not np.array(Image.open(tmp_path / "maps/masks/sub dir/空.png")).any()
    assert any("on others" in note for note in notes)
    with pytest.raises(InputError, match="only written"):
        read_labels(tmp_path / "maps", "png")


def test_class_maps_know_nothing_of_crowds(labels: Labels, tmp_path: Path) -> None:
    labels.images[1].objects = labels.images[1].objects[2:]
    write_labels(labels, tmp_path / "maps", "png")
    pixels = np.array(Image.open(tmp_path / "maps/masks/sub dir/größe 1.png"))
    assert set(np.unique(pixels)) == {0, 255}


def test_predictions_get_outlines_with_few_points(labels: Labels, tmp_path: Path) -> None:
    y, x = np.mgrid[:80, :100]
    round_mask = encode(np.hypot(y - 40, x - 50) < 30)
    found = replace(labels.images[0].objects[0], mask=round_mask, score=0.9)
    labels.images = [replace(labels.images[0], objects=[found])]
    for is_predicted in (False, True):
        labels.are_predictions = is_predicted
        path = tmp_path / f"{is_predicted}.xml"
        write_labels(labels, path, "cvat")
        shape = path.read_text()
        assert ("<polygon" in shape) == is_predicted
        assert ("<mask" in shape) != is_predicted
        again = next(read_labels(path).objects())
        assert iou(labels.images[0], found, again) > (0.95 if is_predicted else 0.9999)


def test_label_studio_gets_predictions_and_the_interface(labels: Labels, tmp_path: Path) -> None:
    for is_predicted, kind in ((False, "annotations"), (True, "predictions")):
        labels.are_predictions = is_predicted
        path = tmp_path / f"{kind}.json"
        write_labels(labels, path, "label-studio")
        tasks = json.loads(path.read_text())
        assert all(kind in task for task in tasks)
        assert tasks[0]["data"]["image"] == "/data/local-files/?d=plain.jpg"
        interface = (tmp_path / f"{kind}.label_config.xml").read_text()
        assert interface.startswith("<View>")
        assert 'value="absent"' in interface
        assert read_labels(path).are_predictions == is_predicted


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_images_are_copied_to_their_place(name: str, labels: Labels, tmp_path: Path) -> None:
    path = tmp_path / "copied"
    write_labels(labels, path, name, copy_images=True)
    again = read_labels(path)
    assert len(list(pairs(labels, again))) == 6
    assert again.root is not None
    assert all((again.root / image.name).is_file() for image in again.images)


def test_nothing_is_overwritten_unasked(labels: Labels, tmp_path: Path) -> None:
    write_labels(labels, tmp_path / "yolo", "yolo")
    corrected = tmp_path / "yolo/labels/plain.txt"
    corrected.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"overwrite: .*yolo.data.yaml and 3 more files"):
        write_labels(labels, tmp_path / "yolo", "yolo")
    assert corrected.read_text() == "0 0.5 0.5 0.1 0.1\n"
    write_labels(labels, tmp_path / "yolo", "yolo", overwrite=True)
    assert corrected.read_text() != "0 0.5 0.5 0.1 0.1\n"


def test_two_images_of_one_stem(labels: Labels, tmp_path: Path) -> None:
    labels.images[0].name = "sub dir/空.png"
    with pytest.raises(InputError, match="would both have their labels in"):
        write_labels(labels, tmp_path / "yolo", "yolo")
    write_labels(labels, tmp_path / "labels.csv", "csv")
