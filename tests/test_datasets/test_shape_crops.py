"""Generated shapes in folders of classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from mmbeit3.datasets import ImageFolderDataset
from mmbeit3.datasets.shape_crops import make_shape_crops
from mmbeit3.utils import InputError


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_classes_that_are_held_out_are_in_no_other_folder(tmp_path: Path) -> None:
    sizes = dict(num_train=40, num_val=20, size=96, held_out=20, crop_size=48)
    out = make_shape_crops(tmp_path / "crops", **sizes)
    unseen = (out / "unseen.txt").read_text().splitlines()
    folders = {split: {p.name for p in (out / split).iterdir()} for split in ("train", "val")}
    held_out = {line.partition("\t")[0] for line in unseen}
    assert len(held_out) == 20
    assert {path.name for path in (out / "unseen").iterdir()} <= held_out
    assert not held_out & folders["train"] and folders["val"] <= folders["train"]
    image = cv2.imread(str(next((out / "train").rglob("*.jpg"))))
    assert image.shape == (48, 48, 3)
    prefix = dict(img_path="unseen")
    dataset = ImageFolderDataset(str(out), prefix, classes_file="all.txt", test_mode=True)
    assert set(dataset.metainfo["classes"]) > {line.partition("\t")[2] for line in unseen}
    before = files(out)
    assert files(make_shape_crops(out, **sizes)) == before


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("mine")
    with pytest.raises(InputError, match="was not made by this command"):
        make_shape_crops(tmp_path, 1, 1)
    with pytest.raises(InputError, match="there are 0 training"):
        make_shape_crops(tmp_path / "new", 0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["all.txt"]
