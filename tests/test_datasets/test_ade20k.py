from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
from mmseg.datasets import ADE20KDataset as MMSegADE20KDataset

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
    assert len(_build(copy, metainfo={"classes": ("sky", "wall")})) == 2


def test_a_missing_map_is_named(copy: Path) -> None:
    (copy / PREFIX["seg_map_path"] / "ADE_val_00000002.png").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 images .*; missing: .*ADE_val_00000002.png"):
        _build(copy)
    assert len(_build(copy, check_labels=False)) == 2


def test_an_absent_or_empty_folder(copy: Path) -> None:
    with pytest.raises(InputError, match=r"absent/images/validation does not exist.*ade20k.py"):
        _build(copy / "absent")
    with pytest.raises(InputError, match="has no file ending in .tif"):
        _build(copy, img_suffix=".tif")
