"""The message about a missing file shows the one that is there."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.datasets import CocoDataset, SegFolderDataset
from mmbeit3.utils import InputError


def coco(root: Path, names: list[str], prefix: str = "train") -> CocoDataset:
    """A data set of images of these names."""
    images = [
        {"id": number, "file_name": name, "width": 20, "height": 10}
        for number, name in enumerate(names, 5)
    ]
    annotations = [
        {"id": one["id"], "image_id": one["id"], "category_id": 1, "bbox": [1, 1, 8, 6], "area": 48}
        for one in images
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / "train.json").write_text(json.dumps(content))
    return CocoDataset(data_root=str(root), ann_file="train.json", data_prefix={"img": prefix})


def image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(file)


NFC, NFD = (unicodedata.normalize(form, "Möwe é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("named", "there", "difference"),
    [
        ("a.jpg", "train/a.JPG", "upper and lower case"),
        ("IMG_1.jpeg", "train/img_1.jpg", "the suffix"),
        ("a.jpg", "train/a.png", "the suffix"),
        (NFC, f"train/{NFD}", r"Unicode normal form \(NFC here, NFD on disk\)"),
        (NFD, f"train/{NFC}", r"Unicode normal form \(NFD here, NFC on disk\)"),
        ("my%20photo%201.png", "train/my photo 1.png", "percent-encoding"),
        ("train/a.png", "train/a.png", "the folder"),
        ("C:\\data\\pictures\\a.png", "train/a.png", "the folder"),
        ("a.png", "train/deep/er/a.png", "the folder"),
        ("a.png", "val/a.png", "the folder"),
        ("Deep/a.png", "train/deep/a.png", "upper and lower case of the folder"),
        ("http://host/set/a.png", "train/a.png", "the folder"),
    ],
)
def test_an_image_under_another_name(
    tmp_path: Path, named: str, there: str, difference: str
) -> None:
    image(tmp_path / there)
    (tmp_path / "train").mkdir(exist_ok=True)
    with pytest.raises(InputError) as caught:
        coco(tmp_path, [named])
    text = str(caught.value)
    assert "1 of the 1 images" in text
    assert f"did you mean {tmp_path / there}?" in text
    assert re.search(f"It differs in .*{difference}", text), text


def test_a_folder_in_other_letters(tmp_path: Path) -> None:
    image(tmp_path / "Train" / "a.png")
    with pytest.raises(InputError, match=r"No such file[^\n]*did you mean [^\n]*/Train/a.png\?"):
        coco(tmp_path, ["a.png"])


def test_an_image_that_is_nowhere(tmp_path: Path) -> None:
    image(tmp_path / "train" / "b.png")
    with pytest.raises(InputError, match=r"a.png in [^?]*/train. Check data_root and data_prefix"):
        coco(tmp_path, ["a.png"])


def test_backslashes_are_read(tmp_path: Path) -> None:
    for name in ("deep/a.png", "deep/er/b.png"):
        image(tmp_path / "train" / name)
    dataset = coco(tmp_path, ["deep\\a.png", "deep\\er\\b.png", "./deep/a.png"])
    paths = [dataset.get_data_info(index)["img_path"] for index in range(3)]
    assert all(Path(path).is_file() for path in paths)


def test_a_backslash_of_a_name_stays(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a\\b.png")
    dataset = coco(tmp_path, ["a\\b.png"])
    assert Path(dataset.get_data_info(0)["img_path"]).is_file()


def test_the_annotation_file_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "Train.JSON").write_text("{}")
    with pytest.raises(InputError, match=r"did you mean .*/Train.JSON\?"):
        CocoDataset(data_root=str(tmp_path), ann_file="train.json", data_prefix={"img": ""})


def pair(root: Path, image_name: str, map_name: str) -> None:
    for file, mode in ((root / "images" / image_name, "RGB"), (root / "masks" / map_name, "L")):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert(mode).save(file)


def folder(root: Path, **kwargs: object) -> SegFolderDataset:
    return SegFolderDataset(
        data_root=str(root),
        data_prefix=dict(img_path="images", seg_map_path="masks"),
        metainfo=dict(classes=("x", "y")),
        **kwargs,
    )


def test_a_label_map_under_another_name(tmp_path: Path) -> None:
    pair(tmp_path, "A.png", "a.png")
    pair(tmp_path, NFC, NFD)
    with pytest.raises(InputError) as caught:
        folder(tmp_path)
    text = str(caught.value)
    assert "A.png (did you mean a? It differs in upper and lower case)" in text
    assert "It differs in Unicode normal form (NFC here, NFD on disk)" in text


@pytest.mark.parametrize("line", ["deep\\a", "./deep/a", "deep//a"])
def test_a_line_of_the_list_of_images_is_read(tmp_path: Path, line: str) -> None:
    pair(tmp_path, "deep/a.png", "deep/a.png")
    (tmp_path / "list.txt").write_text(line)
    assert len(folder(tmp_path, ann_file="list.txt")) == 1


@pytest.mark.parametrize("line", ["a.png", "A", "a.jpg"])
def test_a_line_of_the_list_of_images_in_other_letters(tmp_path: Path, line: str) -> None:
    pair(tmp_path, "a.png", "a.png")
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(InputError, match=rf"{line} \(did you mean a\?"):
        folder(tmp_path, ann_file="list.txt")
