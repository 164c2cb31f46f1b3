"""Large annotation files through an index: items and words as of files that are read whole."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmbeit3.datasets import CocoDataset, coco_index, read_classes
from mmbeit3.datasets.coco_index import CocoIndex, load_content
from mmbeit3.utils import InputError

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
CATEGORIES = [{"id": 7, "name": "nut"}, {"id": 3, "name": "fruit"}, {"id": 9, "name": "köy"}]
INDEXED, WHOLE = 0, 10**12  # of LARGE


def make_data(num_images: int = 12) -> dict[str, Any]:
    """Images with annotations out of order: whole and other numbers, crowds, RLE, ignored."""
    images = [
        {"id": 100 - i, "file_name": f"ört/{i}.jpg", "width": 60 + i, "height": 50}
        for i in range(num_images)
    ]
    runs = {"size": [50, 60], "counts": [500, 20, 30 * 60 + 680]}
    masks: list[Any] = [SQUARE, [[1.5, 2, 9, 2.25, 9, 30]], runs, None, []]
    annotations = [
        {
            "id": i,
            "image_id": images[i * 5 % (num_images - 1)]["id"] if i % 5 != 2 else 100,
            "category_id": (7, 3)[i % 3 == 0],
            "bbox": [10, 10, 20 + i % 7, 20.5 if i % 2 else 20],
            "area": 400 if i % 11 else 0,
            "iscrowd": int(i % 7 == 0),
            "ignore": int(i % 13 == 0),
            "segmentation": masks[i % 5],
        }
        for i in range(40)
    ]
    return {"annotations": annotations, "images": images, "categories": CATEGORIES}


def write(file: Path, data: Any, order: str = "iac", **settings: Any) -> str:
    keys = {"i": "images", "a": "annotations", "c": "categories"}
    data = {keys[letter]: data[keys[letter]] for letter in order} | {"info": {"year": 1}}
    file.write_text(json.dumps(data, **settings))
    return str(file)


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(coco_index, "LARGE", INDEXED)
    monkeypatch.setenv("MMBEIT3_INDEX_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr("mmbeit3.datasets.coco.check_image_files", lambda *args: None)
    return tmp_path / "kept"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def build(file: str, limit: int = INDEXED, **settings: Any) -> CocoDataset:
        monkeypatch.setattr(coco_index, "LARGE", limit)
        settings = {"pipeline": [], "check_meaning": False} | settings
        return CocoDataset(ann_file=file, data_prefix={"img": "images"}, **settings)

    return build


def items(dataset: CocoDataset) -> list[str]:
    """All items; their text tells whole numbers from others, too."""
    return [repr(dataset.get_data_info(i)) for i in range(len(dataset))]


LOADER = {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True}


@pytest.mark.parametrize("order", ["iac", "aic", "cia", "aci"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"test_mode": True},
        {"filter_cfg": {"filter_empty_gt": True, "min_size": 5}},
        {"metainfo": {"classes": ("fruit",)}, "filter_cfg": {"filter_empty_gt": True}},
        {"metainfo": {"classes": ("nut", "köy", "fruit")}},
        {"indices": 4},
        {"indices": -3},
        {"indices": [5, 0, 5]},
        {"serialize_data": False},
    ],
)
def test_items_are_the_same(
    tmp_path: Path, build: Callable[..., Any], settings: dict[str, Any], order: str
) -> None:
    file = write(tmp_path / "a.json", make_data(), order, ensure_ascii="c" in order[:1])
    ours, whole = build(file, **settings), build(file, WHOLE, **settings)
    assert items(ours) == items(whole)
    assert ours.metainfo == whole.metainfo and ours.num_learnable == whole.num_learnable
    assert [ours.get_cat_ids(i) for i in range(len(ours))] == [
        whole.get_cat_ids(i) for i in range(len(ours))
    ]
    assert items(pickle.loads(pickle.dumps(ours))) == items(whole)
    assert items(copy.deepcopy(ours)) == items(whole)
    assert items(ours.get_subset([1, 0])) == items(whole.get_subset([1, 0]))
    assert items(ours.get_subset(2)) == items(whole.get_subset(2))
    ours.get_subset_([2, 1])
    whole.get_subset_([2, 1])
    assert items(ours) == items(whole)


def change(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    data["annotations"][17] |= changes
    return data


@pytest.mark.parametrize("order", ["iac", "aci"])
@pytest.mark.parametrize(
    "make",
    [
        lambda data: change(data, id=3),
        lambda data: change(data, image_id=4),
        lambda data: change(data, category_id=4),
        lambda data: change(data, bbox=[1, 2, -3, 4]),
        lambda data: change(data, segmentation={"size": [50, 60], "counts": "zz"}),
        lambda data: data | {"images": []},
        lambda data: data | {"images": {"id": 3}},
        lambda data: data | {"images": [*data["images"], data["images"][0]]},
        lambda data: data | {"categories": [*CATEGORIES, CATEGORIES[0]]},
        lambda data: data | {"annotations": {}},
        lambda data: (
            data | {"annotations": [a | {"bbox": [0, 0, 0.5, 1]} for a in data["annotations"]]}
        ),
        lambda data: data | {"annotations": [a | {"iscrowd": 1} for a in data["annotations"]]},
    ],
)
def test_mistakes_are_told_in_the_same_words(
    tmp_path: Path, build: Callable[..., Any], make: Callable[[dict], dict], order: str
) -> None:
    file = write(tmp_path / "a.json", make(make_data()), order)
    texts = []
    for limit in (INDEXED, WHOLE):
        with pytest.raises(InputError) as caught:
            build(file, limit, check_meaning=True)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


NAMES = ["a.jpg", "ört/b.png", "c d.jpg", "e\\f.jpg", "g/h/i.jpg", '"q".jpg', "日本.jpg"]
ODD_ENTRIES: dict[str, list[Any]] = {
    "id": ["17", 17.0, -4, 2**40, True, None, 2**70],
    "image_id": ["100", 100.0, 99, 12345, None],
    "category_id": ["7", 7.0, 9, 8, [3]],
    "bbox": [[1, 2, 3], [0, 0, 0, 5], [-5, 1, 9, 9], ["1", 2, 3, 4], {"x": 1}, [70, 60, 5, 5]],
    "area": [0, -1, "12", 1e9, None],
    "iscrowd": [1, 0, True, 2, "1", None],
    "ignore": [1, 0, "yes"],
    "segmentation": [
        *([], None, [[]], [[1, 2, 3, 4]], [SQUARE[0], SQUARE[0][:6]], {"size": [50, 60]}),
        {"size": [50, 60], "counts": [3000]},
        {"size": [50, 60], "counts": "0hm2"},
        {"size": [50, 60], "counts": "Pm2"},
    ],
    "width": [60.0, "60", 0, 61],
    "height": [1, 2**31],
    "file_name": ["", None, 4, *NAMES],
    "name": ["nut", "", 5],
    "supercategory": ["food", None],
    "note": [{"deep": [1, {"er": '\\" }, {'}]}, 1.5e-7, "[{\n"],
}


def make_odd(draw: random.Random) -> dict[str, Any]:
    """Data as of :func:`make_data`, of which some entries are odd in one or two ways."""
    data: dict[str, Any] = copy.deepcopy(make_data(draw.randint(2, 14)))
    for image in data["images"]:
        image["file_name"] = draw.choice(NAMES)
    del data["annotations"][draw.randrange(41) :]
    if draw.random() < 0.5:
        for annotation in data["annotations"]:
            annotation["segmentation"] = annotation["segmentation"] or SQUARE
    for _ in range(draw.choice([0, 0, 1, 1, 2, 9])):
        entry = draw.choice(data[draw.choice(list(data))] or [{}])
        key = draw.choice(list(entry) or ["id"])
        change = draw.choice(["value", "new", "new", "absent", "twin"])
        if change == "absent":
            entry.pop(key, None)
        elif change == "twin":
            kind = next((each for each in data.values() if entry in each), [])
            kind.append(copy.deepcopy(entry))
        else:
            key = key if change == "value" else draw.choice(list(ODD_ENTRIES))
            entry[key] = draw.choice(ODD_ENTRIES[key])
    if draw.random() < 0.1:
        data[draw.choice(list(data))] = draw.choice([[], None, {}, "x", [1], [[]]])
    return data


def outcome(build: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """What a data set gives of itself, or the error that it raises."""
    try:
        dataset = build(*args, **settings)
    except InputError as error:
        return str(error)
    labels = [dataset.get_cat_ids(i) for i in range(len(dataset))]
    return items(dataset), labels, dataset.metainfo, dataset.num_learnable


@pytest.mark.parametrize("seed", range(4))
def test_odd_files_are_read_alike(
    seed: int, tmp_path: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    for module in ("coco", "checks.coco"):
        monkeypatch.setattr(
            f"mmbeit3.datasets.{module}.print_log", lambda text, *_: texts.append(text)
        )
    draw = random.Random(seed)
    for number in range(40):
        settings = {
            "check_meaning": draw.random() < 0.5,
            "test_mode": draw.random() < 0.3,
            "filter_cfg": draw.choice(
                [None, {"filter_empty_gt": True}, {"filter_empty_gt": True, "min_size": 55}]
            ),
            "metainfo": draw.choice([None, {"classes": ("fruit",)}, {"classes": ("köy", "nut")}]),
            "pipeline": draw.choice([[], [], [LOADER], [LOADER | {"poly2mask": False}]]),
        }
        file = write(
            tmp_path / f"{number}.json", make_odd(draw), draw.choice(["iac", "aci", "cia"])
        )
        found = []
        for limit in (WHOLE, INDEXED, INDEXED):
            texts.clear()
            found.append((outcome(build, file, limit, **settings), list(texts)))
        assert found[1] == found[0], (number, settings)
        assert found[2] == found[0], (number, settings)


def test_doubtful_entries_are_told_at_every_start(
    tmp_path: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(
        "mmbeit3.datasets.checks.coco.print_log", lambda text, *_: texts.append(text)
    )
    file = write(tmp_path / "a.json", make_data())
    build(file, WHOLE)
    build(file)
    build(file)
    assert "annotations[11] (id 11): bbox" in texts[0]
    assert texts == [texts[0]] * 3


def test_an_index_is_made_once_and_anew_when_stale(
    tmp_path: Path, kept: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []
    scan = coco_index._Scan
    monkeypatch.setattr(coco_index, "_Scan", lambda *args: scans.append(1) or scan(*args))
    data = make_data()
    file = write(tmp_path / "a.json", data)
    assert read_classes(file) == ("fruit", "nut", "köy")
    build(file)
    assert len(scans) == 1 and len(list(kept.glob("*.index"))) == 1
    os.utime(file, (1, 1))  # copied, for one
    build(file)
    build(file)
    assert len(scans) == 1
    data["annotations"][1]["bbox"] = [11, 11, 20, 20]  # of the same length, and other content
    write(tmp_path / "a.json", data)
    assert "11, 11, 31, 31" in "".join(items(build(file)))
    assert len(scans) == 2


@pytest.mark.parametrize("place", [5, 300, -1, -400, None])
def test_a_damaged_index_is_noticed(
    tmp_path: Path,
    kept: Path,
    build: Callable[..., Any],
    place: int | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = write(tmp_path / "a.json", make_data())
    expected = items(build(file))
    (index,) = kept.glob("*.index")
    content = bytearray(index.read_bytes())
    if place is None:
        del content[-20:]
    else:
        content[place] ^= 0x11
    index.write_bytes(content)
    assert items(build(file)) == expected
    assert "cannot be used" in capfd.readouterr().err
    assert not [name for name in os.listdir(kept) if name.endswith(".partial")]


def test_a_file_that_changes_while_it_is_used_is_noticed(
    tmp_path: Path, build: Callable[..., Any]
) -> None:
    file = write(tmp_path / "a.json", make_data())
    dataset = build(file)
    with open(file, "r+b") as stream:
        stream.write(b" " * 3000)
    with pytest.raises(InputError, match=r"a\.json has changed while it was in use"):
        dataset.get_data_info(3)


def test_where_an_index_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.json", make_data())
    monkeypatch.delenv("MMBEIT3_INDEX_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = load_content(file, check_meaning=False)
    assert isinstance(index, CocoIndex) and index.file == tmp_path / "a.json.index"
    assert index.file.stat().st_mode & 0o666 == os.stat(file).st_mode & 0o666
    os.remove(index.file)

    def refuse(place: Path, *args: Any) -> None:
        if place.parent == tmp_path:
            raise PermissionError(13, "no")
        return locked(place, *args)

    locked = coco_index.locked
    monkeypatch.setattr(coco_index, "locked", refuse)
    index = load_content(file, check_meaning=False)
    assert isinstance(index, CocoIndex) and index.file.parent == tmp_path / "cache" / "mmbeit3"
    monkeypatch.setenv("XDG_CACHE_HOME", f"{file}/none")  # nowhere: the file is read whole
    os.remove(index.file)
    assert not isinstance(load_content(file, check_meaning=False), CocoIndex)


def test_another_encoding_is_read_whole(tmp_path: Path, build: Callable[..., Any]) -> None:
    file = write(tmp_path / "a.json", make_data())
    text = Path(file).read_text()
    expected = items(build(file))
    for encoding in ("utf-16", "utf-8-sig"):
        Path(file).write_text(text, encoding=encoding)
        assert items(build(file)) == expected


MAKER = """
import sys
from mmbeit3.datasets import coco_index
coco_index.LARGE = 0
scan = coco_index._Scan
coco_index._Scan = lambda *args: print("made") or scan(*args)
coco_index.load_content(sys.argv[1], check_meaning=False)
"""


@pytest.mark.slow
def test_one_of_several_processes_makes_the_index(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", make_data())
    command = [sys.executable, "-c", MAKER, file]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(text.count("made\n") for text in said) == 1
