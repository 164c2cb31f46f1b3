from __future__ import annotations

import copy
import gc
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmbeit3.datasets.checks.coco import (
    MAX_EXAMPLES,
    check_coco,
    load_coco,
    no_garbage_collection,
    read_json,
)
from mmbeit3.utils import InputError

POLYGON = [10, 10, 30, 10, 30, 40]
GOOD = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {
            "id": 900 + i,
            "image_id": 7,
            "category_id": 1,
            "bbox": [10, 10, 20, 30],
            "area": 300,
            "iscrowd": 0,
            "segmentation": [POLYGON],
        }
        for i in range(3)
    ],
}


def _set(*path: str | int, to: object) -> Callable[[dict], None]:
    def change(data: dict) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def _drop(*path: str | int) -> Callable[[dict], None]:
    def change(data: dict) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


ANN = ("annotations", 1)
BAD = {
    "no images": (_drop("images"), "'images' is missing at the top level"),
    "no annotations": (_drop("annotations"), "'annotations' is missing at the top level"),
    "annotations not a list": (_set("annotations", to={}), "'annotations' is an object"),
    "images empty": (_set("images", to=[]), "'images' is empty"),
    "image without a size": (_drop("images", 0, "width"), "images[0] (id 7): 'width' is missing"),
    "image with a bad size": (_set("images", 0, "height", to=0), "height is 0, expected pixels"),
    "image id": (_set("images", 0, "id", to="7"), "images[0] (id '7'): id is '7', expected an "),
    "image twice": (_set("images", to=GOOD["images"] * 2), "images[1] (id 7): another image"),
    "category id twice": (
        _set("categories", 1, "id", to=1),
        "categories[1] (id 1): another category has the same id",
    ),
    "category name twice": (_set("categories", 1, "name", to="cat"), "the same name 'cat'"),
    "not an object": (_set(*ANN, to=5), "annotations[1]: is an integer, expected an object"),
    "no box": (_drop(*ANN, "bbox"), "annotations[1] (id 901): 'bbox' is missing"),
    "annotation id twice": (
        _set(*ANN, "id", to=900),
        "annotations[1] (id 900): another annotation has the same id",
    ),
    "unknown image": (_set(*ANN, "image_id", to=8), "(id 901): image_id 8 is not in images"),
    "unknown category": (
        _set(*ANN, "category_id", to=12),
        "annotations[1] (id 901): category_id 12 is not in categories (1..2)",
    ),
    "3 numbers": (_set(*ANN, "bbox", to=[1, 2, 3]), "bbox is [1, 2, 3], expected 4 finite numbers"),
    "text in the box": (_set(*ANN, "bbox", to=["1", "2", "3", "4"]), "expected 4 finite numbers"),
    "nan in the box": (_set(*ANN, "bbox", 2, to=float("nan")), "expected 4 finite numbers"),
    "negative width": (_set(*ANN, "bbox", to=[9, 9, -3, 4]), "width or height is negative"),
    "area": (_set(*ANN, "area", to=None), "area is None, expected pixels"),
    "odd polygon": (_set(*ANN, "segmentation", to=[POLYGON + [3]]), "segmentation[0] has 7 numb"),
    "two points": (_set(*ANN, "segmentation", to=[POLYGON, [1, 2, 3, 4]]), "segmentation[1] has 4"),
    "flat polygon": (_set(*ANN, "segmentation", to=POLYGON), "segmentation[0] is an integer"),
    "inf in a polygon": (
        _set(*ANN, "segmentation", to=[[float("inf"), *POLYGON[1:]]]),
        "segmentation[0] holds something that is not a finite number",
    ),
    "text in a polygon": (_set(*ANN, "segmentation", to=[["x", *POLYGON[1:]]]), "not a finite num"),
    "RLE of another size": (
        _set(*ANN, "segmentation", to={"size": [64, 48], "counts": "x"}),
        "the RLE has size [64, 48], expected [height, width] = [48, 64]",
    ),
    "RLE without counts": (
        _set(*ANN, "segmentation", to={"size": [48, 64]}),
        "the RLE has the keys ['size'], expected 'size' and 'counts'",
    ),
    "RLE that covers too little": (
        _set(*ANN, "segmentation", to={"size": [48, 64], "counts": [1000, 72]}),
        "the RLE's counts cover 1072 pixels, expected 3072",
    ),
    "RLE with a negative run": (
        _set(*ANN, "segmentation", to={"size": [48, 64], "counts": [3073, -1]}),
        "counts hold something other than whole numbers from 0 on",
    ),
    "compressed RLE of garbage": (
        _set(*ANN, "segmentation", to={"size": [48, 64], "counts": "no code"}),
        "annotations[1] (id 901): the RLE's counts hold a character that does not belong",
    ),
    "compressed RLE that covers too much": (
        _set(*ANN, "segmentation", to={"size": [48, 64], "counts": "Pna0"}),
        "annotations[1] (id 901): the RLE's counts cover ",
    ),
    "mask that is text": (_set(*ANN, "segmentation", to=""), "segmentation is text, expected poly"),
    "point far outside": (
        _set(*ANN, "segmentation", 0, 2, to=1e9),
        "segmentation[0] [10, 10, 1000000000.0, 10, 30, 40] reaches far beyond its image of 64 x",
    ),
    "box far outside": (
        _set(*ANN, "bbox", to=[-70, 0, 5, 5]),
        "bbox [-70, 0, 5, 5] reaches far beyond its image of 64 x 48",
    ),
    "bool for an id": (_set(*ANN, "image_id", to=True), "image_id is True, expected an integer"),
    "id of 70 bits": (_set("images", 0, "id", to=2**70), "id is 1180591620717411303424, expected"),
    "bool for a width": (_set("images", 0, "width", to=True), "width is True, expected pixels"),
    "width of a planet": (_set("images", 0, "width", to=10**12), "more than 1,073,741,824 pixels"),
    "half a character": (_set("images", 0, "file_name", to="\ud800.jpg"), r"name is '\ud800.jpg'"),
    "file name with a zero": (_set("images", 0, "file_name", to="a\0"), r"file_name is 'a\x00'"),
    "blank category": (_set("categories", 0, "name", to=" "), "name is ' ', expected text"),
    "iscrowd": (_set(*ANN, "iscrowd", to=2), "iscrowd is 2, expected 0 or 1"),
    "ignore": (_set(*ANN, "ignore", to="no"), "ignore is 'no', expected 0 or 1"),
    "integer beyond floats": (_set(*ANN, "bbox", 0, to=10**400), "expected 4 finite numbers"),
    "bool in the box": (_set(*ANN, "bbox", 0, to=True), "bbox is [True, 10, 20, 30], expected 4"),
    "area beyond floats": (_set(*ANN, "area", to=10**400), "expected pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_entry_is_named(name: str) -> None:
    change, message = BAD[name]
    data = copy.deepcopy(GOOD)
    change(data)
    report = check_coco(data)
    assert report.num_errors >= 1
    assert message in "\n".join(report.errors)


def test_good_data_pass() -> None:
    report = check_coco(GOOD)
    assert (report.num_errors, report.num_warnings) == (0, 0)
    crowd = copy.deepcopy(GOOD)
    crowd["annotations"][0] |= {"iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [3072]}}
    crowd["annotations"][1]["segmentation"] = []
    assert check_coco(crowd).num_errors == 0


def test_results_given_for_annotations() -> None:
    assert "is this a results file?" in check_coco([{"image_id": 1}]).errors[0]


def test_images_of_a_test_set_have_no_annotations() -> None:
    data = {key: GOOD[key] for key in ("images", "categories")}
    assert check_coco(data, require_annotations=False).num_errors == 0


@pytest.mark.parametrize("box", [[5, 5, 0, 3], [5, 5, 0.4, 3]])
def test_tiny_boxes_are_only_doubtful(box: list[float]) -> None:
    data = copy.deepcopy(GOOD)
    data["annotations"][2]["bbox"] = box
    report = check_coco(data)
    assert report.num_errors == 0
    assert "smaller than a pixel" in report.warnings[0]


def test_corner_boxes_are_doubtful() -> None:
    data = copy.deepcopy(GOOD)
    data["annotations"][0]["bbox"] = [40, 20, 60, 40]
    report = check_coco(data)
    assert report.num_errors == 0
    assert "reaches beyond its image of 64 x 48" in report.warnings[0]


def test_an_image_that_is_there_twice_is_doubtful() -> None:
    data = copy.deepcopy(GOOD)
    data["images"].append(data["images"][0] | {"id": 8})
    report = check_coco(data)
    assert report.num_errors == 0
    assert report.warnings == ["images[1] (id 8): images[0] is 'a.jpg', too"]


def test_an_area_larger_than_the_image_is_doubtful() -> None:
    data = copy.deepcopy(GOOD)
    data["annotations"][0]["area"] = 70 * 50
    report = check_coco(data)
    assert report.num_errors == 0
    assert "has the area 3500, more than its image" in report.warnings[0]


def test_boxes_in_fractions_are_an_error() -> None:
    data = copy.deepcopy(GOOD)
    for annotation in data["annotations"]:
        annotation["bbox"] = [0.1, 0.1, 0.5, 0.4]
    assert "3 of 3 boxes are fractions" in check_coco(data).errors[0]


def test_boxes_without_a_pixel_are_an_error() -> None:
    data = copy.deepcopy(GOOD)
    for annotation in data["annotations"]:
        annotation["bbox"] = [20.0, 10.0, 0.5, 0.4]
    assert "all 3 boxes are smaller than a pixel" in check_coco(data, check_meaning=False).errors[0]


def test_another_convention_may_be_allowed() -> None:
    data = copy.deepcopy(GOOD)
    for annotation in data["annotations"]:
        annotation["bbox"] = [10, 10, 30, 40]
        annotation["area"] = 70 * 50
    (error,) = check_coco(data).errors
    assert "[x1, y1, x2, y2]" in error and "check_meaning=False" in error
    report = check_coco(data, max_examples=1, check_meaning=False)
    assert (report.num_errors, report.num_warnings) == (0, 4)
    assert "[x1, y1, x2, y2]" in report.warnings[0]  # before those on single objects


def test_many_errors_are_counted_and_a_few_shown() -> None:
    data = copy.deepcopy(GOOD)
    data["annotations"] = [{"id": i} for i in range(1000)]
    report = check_coco(data)
    assert report.num_errors == 1000
    assert len(report.errors) == MAX_EXAMPLES


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent\.json"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)
    truncated = tmp_path / "truncated.json"
    truncated.write_text('{"images": [\n  {"id": 1}, ')
    with pytest.raises(InputError, match="line 2, column"):
        read_json(truncated)
    (tmp_path / "image.json").write_bytes(b"{ \xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="not a text file in UTF-8: .* at byte 2"):
        read_json(tmp_path / "image.json")
    for text, message in (("[" * 10**5, "nested too deeply"), ("9" * 5000, "number that is too l")):
        truncated.write_text(text)
        with pytest.raises(InputError, match=message):
            read_json(truncated)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("before", "after", "entry", "key"),
    [
        ('"annotations": [', '"annotations": [], "annotations": [', ': [{"id": 900', "annotations"),
        ('"bbox": [', '"bbox": [1, 2, 3, 4], "bbox": [', '{"id": 900', "bbox"),
        ('"name": "dog"', '"name": "cow", "name": "dog"', '{"id": 2', "name"),
        ('{"images"', '{"info": {"a": [{"b": 1, "b": 2}]}, "images"', '{"a"', "b"),
    ],
)
def test_a_key_that_stands_twice(
    tmp_path: Path, before: str, after: str, entry: str, key: str, encoding: str
) -> None:
    text = json.dumps(GOOD).replace(before, after, 1)
    (tmp_path / "twice.json").write_text(text, encoding=encoding)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "twice.json")
    place = f"twice.json: character {text.index(entry)}: the key {key!r} stands twice in one object"
    assert place in str(caught.value)


def test_a_key_that_stands_twice_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('[{"score": 1, "score": 0}]')
    with pytest.raises(InputError, match="results.json: the key 'score' stands twice"):
        read_json(tmp_path / "results.json")


def test_load_coco_lists_the_errors(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    data = copy.deepcopy(GOOD)
    for annotation in data["annotations"][1:]:
        annotation["category_id"] = 12
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        load_coco(path)
    lines = str(caught.value).splitlines()
    assert "train.json is not a usable COCO annotation file: 2 errors" in lines[0]
    assert lines[1].strip().startswith("annotations[1] (id 901): category_id 12")
    assert len(lines) == 3


OFFICIAL = [
    "coco_sample/annotations/instances_train2017.json",
    "coco_sample/annotations/instances_val2017.json",
    "coco_val2014_100_eval/instances_val2014_100.json",
    "fruits_nuts/train.json",
    "fruits_nuts/val.json",
    "nuclei_dsb2018/train.json",
    "nuclei_dsb2018/val.json",
]


@pytest.mark.parametrize("name", OFFICIAL)
def test_real_files_pass(data_root: Path, name: str) -> None:
    report = check_coco(read_json(data_root / name))
    assert (report.errors, report.warnings) == ([], [])


def test_garbage_collection_comes_back() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), no_garbage_collection():
        assert not gc.isenabled()
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
