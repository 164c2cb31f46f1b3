"""Classification data in folders of classes: labels, names, and what is wrong by name."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmbeit3.datasets import ImageFolderDataset, imagenet_class_names
from mmbeit3.datasets.class_names import read_class_names
from mmbeit3.utils import InputError


def write_images(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.full((6, 9, 3), 20 * index, np.uint8))
    return root


def labels(dataset: ImageFolderDataset) -> dict[str, int]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info["image_id"]: info["gt_label"] for info in infos}


def test_folders_in_the_order_of_their_names_are_the_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "train", "red_fox/b.png", "ant/1.png", "red_fox/more/a.jpg")
    dataset = ImageFolderDataset(str(tmp_path), dict(img_path="train"))
    assert dataset.metainfo["classes"] == ("ant", "red fox")
    assert labels(dataset) == {"ant/1.png": 0, "red_fox/b.png": 1, "red_fox/more/a.jpg": 1}
    config = dict(type="x", data_root=str(tmp_path), data_prefix=dict(img_path="train"))
    assert ImageFolderDataset.read_class_names(config)[1] == ("ant", "red fox")


def test_links_lead_to_no_other_class(tmp_path: Path) -> None:
    write_images(tmp_path, "ant/1.png", "fox/1.png")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "ant" / "up").symlink_to("..")
    assert labels(ImageFolderDataset(str(tmp_path))) == {"ant/1.png": 0, "fox/1.png": 1}


@pytest.mark.parametrize("classes", [["ant", "fox", "ant"], ["ant", 7], [["ant"], "fox"]])
def test_classes_that_are_no_names_are_refused(tmp_path: Path, classes: list) -> None:
    write_images(tmp_path, "ant/1.png")
    with pytest.raises(InputError, match="expected texts, each once"):
        ImageFolderDataset(str(tmp_path), metainfo=dict(classes=classes), test_mode=True)


def test_imagenets_layout_has_its_names(tmp_path: Path) -> None:
    write_images(tmp_path, "n03126707/1.png", "n02012849/1.png", "n01440764/2.png")
    dataset = ImageFolderDataset(str(tmp_path))
    assert dataset.metainfo["classes"] == ("tench", "crane bird", "construction crane")


def test_every_name_of_imagenet_is_its_own() -> None:
    names = imagenet_class_names()
    assert list(names) == sorted(names)
    assert len({name.lower() for name in names.values()}) == len(names) == 1000


@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_a_file_names_the_classes_and_their_order(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path, "c7/1.png", "ant/1.png", "zebra/1.png")
    lines = ["zebra", "c7\tgray wolf", "ant"]
    text = json.dumps(lines) if suffix == ".json" else "\n".join(lines) + "\n\n"
    (tmp_path / f"names{suffix}").write_text(text)
    dataset = ImageFolderDataset(str(tmp_path), classes_file=f"names{suffix}")
    assert dataset.metainfo["classes"] == ("zebra", "gray wolf", "ant")
    assert labels(dataset) == {"ant/1.png": 2, "c7/1.png": 1, "zebra/1.png": 0}


def test_a_test_set_has_the_order_of_its_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, "ant/1.png", "red_fox/1.png")
    names = dict(classes=["red fox", "gnu", "ant"])
    dataset = ImageFolderDataset(str(tmp_path), metainfo=names, test_mode=True)
    assert labels(dataset) == {"ant/1.png": 2, "red_fox/1.png": 0}
    with pytest.raises(InputError, match="no folder of 1 of the 3 classes: gnu"):
        ImageFolderDataset(str(tmp_path), metainfo=names)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "has no folders; expected one of images for each class"),
        (["1.png", "2.png"], {}, "2 images that are in no folder of a class: 1.png, 2.png"),
        (["ant/1.png", "loose.jpg"], {}, "1 images that are in no folder of a class: loose.jpg"),
        (["a_b/1.png", "a b/1.png"], {}, "has the folders a b and a_b, both of the class 'a b'"),
        (["ant/1.png"], dict(data_prefix=dict(img_path="trian")), "trian does not exist"),
        (
            ["ant/1.png"],
            dict(data_prefix=dict(img="")),
            "the keys .'img'., expected 'img_path'",
        ),
        (["ant/1.png", "ox/1.png"], dict(metainfo=dict(classes=["ant"])), "no class of meta.*: ox"),
        (["ant/1.png"], dict(metainfo=dict(classes="ant")), "is the text 'ant'"),
        (["ant/1.png"], dict(classes_file="no.txt"), "there is no file .*no.txt"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, images: list[str], options: dict, message: str
) -> None:
    write_images(tmp_path, *images)
    with pytest.raises(InputError, match=message):
        ImageFolderDataset(str(tmp_path), **options)


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "ant/1.png")
    (tmp_path / "gnu").mkdir()
    (tmp_path / "gnu" / "readme.txt").write_text("soon")
    for test_mode in (False, True):
        with pytest.raises(InputError, match="the class of the folder gnu has no image"):
            ImageFolderDataset(str(tmp_path), test_mode=test_mode)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    write_images(tmp_path, "ant/1.png")
    (tmp_path / "ant" / "broken.jpg").write_bytes(content)
    with pytest.raises(InputError, match="1 of the 2 images .*\n.*broken.jpg"):
        ImageFolderDataset(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ant\ngnu\nant\n", "has 'ant' twice, in line 1 and 3"),
        (b"x\tant\nx\tgnu\n", "has 'x' twice, in line 1 and 2"),
        (b"ant\n\ngnu\n", "line 2 is ''; expected a name"),
        (b"ant\t\ngnu\n", "line 1 is 'ant"),
        (b"\n\n", "holds no text; expected one class a line"),
        (b"\xfa\xfb\xfc ant", "is not a text file in UTF-8"),
    ],
)
def test_a_list_of_names_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_class_names(file)
