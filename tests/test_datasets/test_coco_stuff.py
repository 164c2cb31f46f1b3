from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets import COCOStuffDataset as MMSegCOCOStuffDataset
from PIL import Image

from mmbeit3.datasets import COCOStuffDataset, checked_seg
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

PREFIX = {"img_path": "images/val2017", "seg_map_path": "annotations/val2017"}
CONVERTER = r"prepare the data with tools/dataset_converters/coco_stuff164k\.py"


def _build(root: Path, **kwargs) -> COCOStuffDataset:
    settings = {"type": "mmbeit3.COCOStuffDataset", "data_root": str(root), "data_prefix": PREFIX}
    return DATASETS.build(settings | {"test_mode": True} | kwargs)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pairs as the converter leaves them."""
    images, maps = (tmp_path / folder for folder in PREFIX.values())
    images.mkdir(parents=True)
    maps.mkdir(parents=True)
    for number in (139, 285):
        Image.new("RGB", (10, 8)).save(images / f"{number:012d}.jpg")
        labels = np.arange(80, dtype=np.uint8).reshape(8, 10) + 91  # 91..170
        labels[0] = 255
        Image.fromarray(labels).save(maps / f"{number:012d}_labelTrainIds.png")
    return tmp_path


def _map(root: Path) -> Path:
    return root / PREFIX["seg_map_path"] / "000000000285_labelTrainIds.png"


def test_the_same_data_as_mmseg(root: Path) -> None:
    ours, theirs = _build(root), MMSegCOCOStuffDataset(data_root=str(root), data_prefix=PREFIX)
    assert isinstance(ours, MMSegCOCOStuffDataset) and len(ours) == len(theirs) == 2
    assert ours.metainfo == theirs.metainfo
    for index in range(2):
        assert ours.get_data_info(index) == theirs.get_data_info(index)


def test_a_missing_half_of_a_pair_is_named(root: Path) -> None:
    _map(root).unlink()
    with pytest.raises(InputError, match=r"1 of 2 images .* no label map NAME_label.*: 0+285.jpg"):
        _build(root)


@pytest.mark.parametrize("value", [171, 254])
def test_a_value_outside_is_named_unless_the_check_is_off(root: Path, value: int) -> None:
    Image.fromarray(np.full((8, 10), value, np.uint8)).save(_map(root))
    message = rf"value {value}: 80 pixels .*0+285_labelTrainIds.png\nExpected 0\.\.170, or 255"
    with pytest.raises(InputError, match=message):
        _build(root)
    assert len(_build(root, check_labels=False)) == 2


def test_counting_from_one_is_found_out(root: Path) -> None:
    labels = np.arange(176, dtype=np.uint8).reshape(8, 22).clip(0, 170)
    for path in _map(root).parent.iterdir():
        Image.fromarray(labels).save(path)
    for path in (root / PREFIX["img_path"]).iterdir():
        Image.new("RGB", (22, 8)).save(path)
    assert len(_build(root, test_mode=False)) == 2
    with pytest.raises(
        InputError, match="reduce_zero_label is True, but .* seem to be numbered fr"
    ):
        _build(root, test_mode=False, reduce_zero_label=True)


def test_missing_data_bring_up_the_converter(root: Path) -> None:
    with pytest.raises(InputError, match=f"absent/images/val2017 does not exist.*{CONVERTER}"):
        _build(root / "absent")
    for path in _map(root).parent.iterdir():
        path.rename(path.with_name(path.name.replace("_labelTrainIds", "")))
    with pytest.raises(InputError, match=f"no label map NAME_labelTrainIds.png; .*{CONVERTER}"):
        _build(root)
    with pytest.raises(InputError, match=f"has no file ending in .tif; .*{CONVERTER}"):
        _build(root, img_suffix=".tif")


def test_other_classes_are_refused(root: Path) -> None:
    assert len(_build(root, metainfo={"classes": ("wood", "cat")}).metainfo["palette"]) == 2
    with pytest.raises(InputError, match="is moon; expected .* out of COCO-Stuff's 171: person"):
        _build(root, metainfo={"classes": ("moon",)})


def test_the_maps_are_counted_by_what_keeps_the_result(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    count = checked_seg.count_labels
    monkeypatch.setattr(
        checked_seg, "count_labels", lambda *args: counted.append(args) or count(*args)
    )
    _build(root)
    _build(root, check_labels=False)
    ((pairs, source, _),) = counted
    assert len(pairs) == 2 and source == str(root / PREFIX["seg_map_path"])
