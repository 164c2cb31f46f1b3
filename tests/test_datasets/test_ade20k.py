from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets import ADE20KDataset as MMSegADE20KDataset
from PIL import Image

from mmbeit3.datasets import ADE20KDataset
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

PREFIX = {"img_path": "images/validation", "seg_map_path": "annotations/validation"}


def _build(root: Path, **kwargs) -> ADE20KDataset:
    settings = {"type": "mmbeit3.ADE20KDataset", "data_root": str(root), "data_prefix": PREFIX}
    return DATASETS.build(settings | kwargs)


@pytest.fixture
def copy(data_root: Path, tmp_path: Path) -> Path:
    """Two pairs of the sample, to change."""
    for folder, suffix in zip(PREFIX.values(), (".jpg", ".png"), strict=True):
        (tmp_path / folder).mkdir(parents=True)
        for number in (1, 2):
            name = f"{folder}/ADE_val_{number:08d}{suffix}"
            shutil.copy(data_root / "ade20k_sample" / name, tmp_path / name)
    return tmp_path


def test_the_same_data_as_mmseg(data_root: Path) -> None:
    root = data_root / "ade20k_sample"
    ours, theirs = _build(root), MMSegADE20KDataset(data_root=str(root), data_prefix=PREFIX)
    assert len(ours) == len(theirs) == 31
    assert ours.metainfo == theirs.metainfo
    for index in range(31):
        assert ours.get_data_info(index) == theirs.get_data_info(index)
    assert inspect.signature(ADE20KDataset).parameters["reduce_zero_label"].default is True


def test_the_setting_is_wrong_for_the_official_maps(data_root: Path) -> None:
    with pytest.raises(InputError, match="these are the official maps, where 0 is 'other'"):
        _build(data_root / "ade20k_sample", reduce_zero_label=False)


def test_a_choice_of_classes_leaves_the_check_as_it_is(copy: Path) -> None:
    dataset = _build(copy, metainfo={"classes": ("sky", "wall")})
    assert len(dataset) == 2 and len(dataset.metainfo["palette"]) == 2
    colors = [(1, 2, 3), (4, 5, 6)]
    named = _build(copy, metainfo={"classes": ("sky", "wall"), "palette": colors})
    assert named.metainfo["palette"] == colors


def test_a_missing_map_is_named(copy: Path) -> None:
    (copy / PREFIX["seg_map_path"] / "ADE_val_00000002.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 images .* no label map NAME.*: ADE_val_0+2.jpg"):
        _build(copy, check_labels=False)


def test_a_missing_image_is_named(copy: Path) -> None:
    image = copy / PREFIX["img_path"] / "ADE_val_00000002.jpg"
    image.rename(image.with_suffix(".JPG"))  # which mmseg would leave out without a word
    with pytest.raises(InputError, match=r"1 of 2 label maps .* have no image .*: ADE_val_0+2.png"):
        _build(copy)
    (copy / "list.txt").write_text("ADE_val_00000001\nADE_val_00000001\n")
    assert len(_build(copy, ann_file="list.txt")) == 2


def test_a_value_outside_is_named_with_file_and_count(copy: Path) -> None:
    path = copy / PREFIX["seg_map_path"] / "ADE_val_00000002.png"
    labels = np.asarray(Image.open(path)).copy()
    labels[0, :7] = 151
    Image.fromarray(labels).save(path)
    with pytest.raises(
        InputError, match=r"value 151: 7 pixels .*ADE_val_0+2.png\nExpected 0\.\.150$"
    ):
        _build(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metainfo": {"palette": [(0, 0, 0)]}}, "has 1 colors, expected one for each of the 150"),
        (
            {"metainfo": {"classes": ("sky",), "palette": [(0, 0, 0)] * 2}},
            "has 2 colors, .* 1 class",
        ),
        ({"metainfo": {"classes": ("sky", "moon")}}, "is sky, moon; expected a tuple of different"),
        ({"metainfo": {"classes": ("sky", "sky")}}, "is sky, sky; expected a tuple of different"),
        ({"metainfo": {"classes": "sky"}}, "is sky; expected a tuple of different"),
        ({"ann_file": "absent.txt"}, "ann_file .*absent.txt does not exist"),
        ({"data_prefix": {"img_path": PREFIX["img_path"]}}, "training needs label maps"),
        ({"data_prefix": {"img": "images"}}, r"has the keys \['img'\], expected 'img_path'"),
        (
            {"pipeline": [dict(type="mmseg.LoadAnnotations", reduce_zero_label=False)]},
            "LoadAnnotations in the pipeline has reduce_zero_label=False, but the data set has Tr",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:`reduce_zero_label` will be deprecated")
def test_settings_that_cannot_be_used(copy: Path, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(copy, **settings)


def test_an_absent_or_empty_folder(copy: Path) -> None:
    with pytest.raises(InputError, match=r"absent/images/validation does not exist.*ade20k.py"):
        _build(copy / "absent")
    with pytest.raises(InputError, match="has no file ending in .tif"):
        _build(copy, img_suffix=".tif")


def test_chosen_classes_without_a_pixel(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (copy / PREFIX["seg_map_path"]).iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(file)) == 3, 3, 0).astype(np.uint8)).save(
            file
        )
    with pytest.raises(InputError, match="no pixel of the 2 classes of metainfo.classes: wall, ca"):
        _build(copy, metainfo={"classes": ("wall", "car")})
    lines: list[str] = []
    monkeypatch.setattr(
        "mmbeit3.datasets.checked_seg.print_log", lambda text, *_: lines.append(text)
    )
    _build(copy, metainfo={"classes": ("sky", "car")})
    assert "no pixel of 1 of the 2 classes chosen: car" in lines[0]
