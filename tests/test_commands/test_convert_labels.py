"""``mmbeit3 convert-labels``, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mmbeit3.cli import main


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, size in (("a b.jpg", (40, 30)), ("c.jpg", (20, 20))):
        Image.new("RGB", size).save(f"images/{name}")
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 20], "area": 200}
    content = {
        "images": [
            {"id": 1, "file_name": "a b.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "c.jpg", "width": 20, "height": 20},
        ],
        "annotations": [box | {"segmentation": [[1, 2, 11, 2, 11, 22, 1, 22]], "keypoints": []}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    Path("train.json").write_text(json.dumps(content))
    return tmp_path


def test_there_and_back(data: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["convert-labels", "train.json", "voc", "--to", "voc", "--images", "images"]
    assert main([*words, "--copy-images"]) == 0
    said = capsys.readouterr().out
    assert "further values of objects, which are not read: 1 (keypoints)" in said
    assert "objects with a mask, of which Pascal VOC holds the box alone: 1" in said
    assert "classes without an object, of which Pascal VOC has no list: 1 (dog)" in said
    assert "wrote voc (Pascal VOC): 1 objects of 2 classes in 2 images, from COCO" in said
    assert main(["convert-labels", "voc", "again.json", "--to", "coco"]) == 0
    again = json.loads(Path("again.json").read_text())
    assert [entry["bbox"] for entry in again["annotations"]] == [[1, 2, 10, 20]]
    assert [entry["file_name"] for entry in again["images"]] == ["a b.jpg", "c.jpg"]
    assert again["categories"] == [{"id": 1, "name": "cat"}]


def test_where_images_belong_is_said(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert-labels", "train.json", "yolo", "--to", "yolo"]) == 0
    assert "the images belong into yolo/images; --copy-images puts them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train.json out.json", "--to: is needed for out.json: one of coco, voc, yolo"),
        ("train.json train.json --to coco", "--overwrite: is needed to replace train.json"),
        ("images out.csv", "--from: images: its format cannot be told"),
        ("images out.csv --from coco", "images is a folder; the labels of COCO are a file"),
        (
            "train.json out.csv --split train",
            "--split: is train; parts that train.json names",
        ),
        ("train.json out.csv --images absent", "--images: there is no folder absent"),
        ("train.json out.csv --copy-images", "--copy-images: is not for CSV"),
        ("train.json out --to voc --copy-images", "--copy-images: needs the folder of the images"),
        ("train.json images --to csv", "images is a folder; name another place"),
        ("train.json out.xml --from labelme", "train.json has no labels of LabelMe"),
    ],
)
def test_mistakes(words: str, said: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert-labels", *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()
