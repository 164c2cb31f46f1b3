from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path

import mmseg
import numpy as np
import pytest
from mmseg.datasets import COCOStuffDataset
from PIL import Image

from mmbeit3.datasets.converters import coco_stuff as module
from mmbeit3.datasets.converters.coco_stuff import prepare_coco_stuff, train_ids
from mmbeit3.utils import InputError

NUMBERS = {"train2017": (9, 25, 30), "val2017": (139, 285)}


def _png(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    return file.getvalue()


def _labels(number: int) -> np.ndarray:
    """A label map (8, 10) of values that COCO-Stuff uses."""
    used = np.array([v for v in range(182) if v not in module.UNUSED_IDS] + [255], np.uint8)
    return np.random.default_rng(number).choice(used, (8, 10))


def _archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for split, numbers in NUMBERS.items():
            for number in numbers:
                archive.writestr(f"{split}/{number:012d}.png", _png(_labels(number)))
    return path


def _replace(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in (contents | {name: content}).items():
            archive.writestr(entry, data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images and the archive."""
    for split, numbers in NUMBERS.items():
        (tmp_path / "coco" / split).mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", (10, 8)).save(tmp_path / "coco" / split / f"{number:012d}.jpg")
    _archive(tmp_path / "maps.zip")
    return tmp_path


def _prepare(root: Path, archive: str = "maps.zip", **kwargs) -> Path:
    settings = {"num_train": 3, "num_val": 2, "num_workers": 1} | kwargs
    return prepare_coco_stuff(root / archive, root / "coco", root / "out", **settings)


def test_the_numbers_are_mmsegs() -> None:
    file = Path(mmseg.__file__).parent / ".mim/tools/dataset_converters/coco_stuff164k.py"
    if not file.is_file():
        pytest.skip("this mmseg comes without its tools")
    (table,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "clsID_to_trID"
    )
    ours = train_ids()
    assert {value: int(ours[value]) for value in table} == table
    assert {value for value in range(256) if ours[value] != 254} == set(table)
    assert ours[181] == len(COCOStuffDataset.METAINFO["classes"]) - 1 == 170


def test_mmseg_reads_what_was_written(root: Path) -> None:
    folder = _prepare(root)
    for split, numbers in NUMBERS.items():
        prefix = {"img_path": f"images/{split}", "seg_map_path": f"annotations/{split}"}
        dataset = COCOStuffDataset(data_root=str(folder), data_prefix=prefix)
        assert len(dataset) == len(numbers)
        for number, info in zip(numbers, map(dataset.get_data_info, range(3)), strict=False):
            assert Path(info["img_path"]).stem == f"{number:012d}"
            assert Image.open(info["img_path"]).size == (10, 8)
            written = np.asarray(Image.open(info["seg_map_path"]))
            np.testing.assert_array_equal(written, train_ids()[_labels(number)])


def test_a_stopped_run_is_taken_up_again(root: Path) -> None:
    maps = {number: _png(_labels(number)) for number in NUMBERS["val2017"]}
    _replace(root / "maps.zip", "val2017/000000000139.png", b"damaged")
    with pytest.raises(InputError, match="cannot be read"):
        _prepare(root)
    annotations = root / "out" / "annotations"
    # Nothing that training would take for the whole.
    assert not [path for path in annotations.iterdir() if path.name[0] != "."]
    (written,) = annotations.glob(".train2017.partial/000000000009_*")
    time = written.stat().st_mtime_ns
    _replace(root / "maps.zip", "val2017/000000000139.png", maps[139])
    _prepare(root, num_workers=2)
    assert sorted(path.name for path in annotations.iterdir()) == ["train2017", "val2017"]
    assert len(list(annotations.glob("train2017/*"))) == 3
    assert (annotations / "train2017" / written.name).stat().st_mtime_ns == time


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_other_content_of_an_earlier_run_is_replaced(state: str, root: Path) -> None:
    folder = _prepare(root) / "annotations" / "train2017"
    right = {path.name: path.read_bytes() for path in folder.iterdir()}
    first, second, third = sorted(folder.iterdir())
    if state == "stopped":
        folder = folder.rename(folder.with_name(".train2017.partial"))
    (folder / first.name).write_bytes(b"")
    (folder / second.name).write_bytes(right[third.name])  # a valid map, of another image
    changed = bytearray(right[third.name])
    changed[-20] ^= 1
    (folder / third.name).write_bytes(changed)
    (folder / ".123.partial").write_bytes(b"of a process that was killed")
    _prepare(root)
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == right


def test_another_archive_is_converted_anew(root: Path) -> None:
    first = sorted((_prepare(root) / "annotations" / "train2017").iterdir())[0]
    other = _labels(1)
    _replace(root / "maps.zip", "train2017/000000000009.png", _png(other))
    _prepare(root)
    np.testing.assert_array_equal(np.asarray(Image.open(first)), train_ids()[other])


def test_records_that_were_cut_are_mended(root: Path) -> None:
    records = _prepare(root) / ".train2017.records"
    content = records.read_bytes()
    records.write_bytes(content[:-5])
    _prepare(root)
    assert sorted(records.read_bytes().splitlines()) == sorted(content.splitlines())


@pytest.mark.parametrize("size", [(11, 8), (8, 10)])
def test_maps_of_another_size_than_their_image(size: tuple[int, int], root: Path) -> None:
    image = root / "coco" / "val2017" / "000000000139.jpg"
    Image.new("RGB", size).save(image)
    expected = rf"139\.png in .*maps\.zip is 10 x 8, but .*139\.jpg is {size[0]} x {size[1]}"
    with pytest.raises(InputError, match=expected):
        _prepare(root)
    Image.new("RGB", (10, 8)).save(image)
    _prepare(root)
    Image.new("RGB", size).save(image)  # after an earlier run, too
    with pytest.raises(InputError, match=expected):
        _prepare(root)


def test_images_and_maps_that_training_would_refuse(root: Path) -> None:
    image = root / "coco" / "val2017" / "000000000140.jpg"
    Image.new("RGB", (10, 8)).save(image)
    with pytest.raises(InputError, match=r"val2017 has 1 images without a label map .*140\.jpg"):
        _prepare(root)
    image.unlink()
    image.with_name("000000000139.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"139\.jpg cannot be read: the file is empty"):
        _prepare(root)
    Image.new("RGB", (10, 8)).save(image.with_name("000000000139.jpg"))
    stray = _prepare(root) / "annotations/val2017/000000000140_labelTrainIds.png"
    stray.write_bytes(b"")
    with pytest.raises(InputError, match=r"has 1 files that are none of its label maps: 0+140_la"):
        _prepare(root)


def test_a_finished_folder_is_mended(root: Path) -> None:
    folder = _prepare(root)
    first, second, *_ = sorted((folder / "annotations" / "train2017").iterdir())
    first.unlink()
    time = second.stat().st_mtime_ns
    _prepare(root)
    assert first.is_file() and second.stat().st_mtime_ns == time


def test_arguments_and_places_that_cannot_be_used(root: Path) -> None:
    with pytest.raises(InputError, match="number of processes is 0, expected 1 or more"):
        _prepare(root, num_workers=0)
    (root / "out").touch()
    with pytest.raises(InputError, match=r"the folder .*out/images cannot be made: Not a direct"):
        _prepare(root)


def test_other_archives_are_refused(root: Path) -> None:
    with zipfile.ZipFile(root / "stuff.zip", "w") as archive:
        archive.writestr("annotations/stuff_train2017.json", "{}")
    with pytest.raises(
        InputError, match=r"not stuffthingmaps.*: it holds 1 files in annotations\."
    ):
        _prepare(root, "stuff.zip")
    with pytest.raises(
        InputError, match="3 label maps of train2017 and 2 .*, expected 118,287 lab"
    ):
        _prepare(root, num_train=118287, num_val=5000)
    assert not (root / "out").exists()


def test_missing_images_are_named(root: Path) -> None:
    (root / "coco" / "val2017" / "000000000285.jpg").unlink()
    with pytest.raises(InputError, match=r"val2017: 1 of 2 files are missing, such as 0+285.jpg"):
        _prepare(root)
    (root / "coco" / "train2017").rename(root / "coco" / "train2014")
    with pytest.raises(InputError, match="train2017 does not exist; expected COCO's train2017 ima"):
        _prepare(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_png(np.full((8, 10), 11, np.uint8)), r"values that are no label .*: 11 \(80 pixels\)"),
        (_png(np.full((8, 10), 254, np.uint8)), r"values that are no label .*: 254 \(80 pixels\)"),
        (_png(np.zeros((8, 10, 3), np.uint8)), "is no 8-bit map of label values"),
        (b"no picture", r"train2017/0+9.png in .*maps.zip cannot be read"),
    ],
)
def test_label_maps_that_cannot_be_used(root: Path, content: bytes, message: str) -> None:
    _replace(root / "maps.zip", "train2017/000000000009.png", content)
    with pytest.raises(InputError, match=message):
        _prepare(root)
    assert not list(root.rglob("000000000009_labelTrainIds.png"))


def test_a_foreign_image_folder_is_left_alone(root: Path) -> None:
    (root / "out" / "images" / "train2017").mkdir(parents=True)
    with pytest.raises(InputError, match="train2017 exists and is not a link to"):
        _prepare(root)
