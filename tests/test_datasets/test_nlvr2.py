"""Statements about two images: items of each format, and entries that cannot be used, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

PIPELINE = [
    dict(
        type="ForEachImage",
        transforms=[
            dict(type="LoadImageFromFile", _scope_="mmbeit3"),
            dict(type="Resize", scale=(16, 16), keep_ratio=False),
        ],
    ),
    dict(type="PackImageText"),
]
ROWS = [
    {"identifier": "train-5-0-0", "sentence": "Two dogs.", "label": "True", "directory": 31},
    {"identifier": "train-5-0-1", "sentence": "A cat.", "label": "False", "directory": 31},
]
DEV = [{"identifier": "dev-8-1-0", "sentence": "Two dogs.", "label": "False"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for stem in ("images/train/31/train-5-0", "dev/dev-8-1"):
        for number in range(2):
            file = tmp_path / f"{stem}-img{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), draw.integers(0, 256, (20 + number, 24, 3), np.uint8))
    return tmp_path


def build(root: Path, rows: Any, kind: str = "NLVR2Dataset", **options: Any) -> Any:
    text = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
    name = options.pop("ann_file", "data.json")
    (root / name).write_text(text)
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        return DATASETS.build(dict(type=kind, data_root=str(root), ann_file=name) | options)


def test_images_are_named_by_the_identifier_and_the_directory(folder: Path) -> None:
    dataset = build(folder, ROWS, data_prefix=dict(img="images/train"), pipeline=PIPELINE)
    item = dataset.get_data_info(1)
    stem = folder / "images/train/31/train-5-0"
    assert item["img_path"] == [f"{stem}-img0.png", f"{stem}-img1.png"]
    assert (item["identifier"], item["texts"], item["gt_label"]) == ("train-5-0-1", ["A cat."], 0)
    assert dataset.metainfo["classes"] == ("False", "True")
    assert [dataset[index]["data_samples"].gt_label for index in range(2)] == [1, 0]
    assert dataset[0]["inputs"].shape == (2, 3, 16, 16)
    dev = build(folder, DEV, data_prefix=dict(img="dev"))
    assert dev.get_data_info(0)["img_path"][1] == str(folder / "dev/dev-8-1-img1.png")


def test_labels_may_be_unknown_in_tests(folder: Path) -> None:
    row = {key: DEV[0][key] for key in ("identifier", "sentence")}
    prefix = dict(img="dev")
    dataset = build(folder, [row], data_prefix=prefix, test_mode=True)
    assert "gt_label" not in dataset.get_data_info(0)
    with pytest.raises(InputError, match=r"line 1 \(dev-8-1-0\): it has no label; expected 'True'"):
        build(folder, [row], data_prefix=prefix)
    with pytest.raises(InputError, match="line 2 .*has no label.* as others have one"):
        other = row | {"identifier": "dev-8-1-1"}
        build(folder, [*DEV, other], data_prefix=prefix, test_mode=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "Maybe"}, "line 1: label is 'Maybe', expected 'True' or 'False'"),
        ({"label": 1}, "line 1: label is 1, expected"),
        ({"label": ""}, "label is '', expected"),
        ({"sentence": " "}, "sentence is ' ', expected a word"),
        ({"identifier": "dev-8"}, "identifier is 'dev-8', expected split, set, pair and sentence"),
        ({"identifier": None}, "identifier is None"),
        ({"identifier": "train-5-0-1"}, r"line 1 \(train-5-0-1\) has the same identifier"),
        ({"directory": "../x"}, "directory is '../x', expected the name of a folder"),
        ({"directory": None}, "directory is None"),
    ],
)
def test_mistakes_are_named(folder: Path, changes: dict, message: str) -> None:
    rows = [ROWS[0] | changes, ROWS[1]]
    with pytest.raises(InputError, match=message):
        build(folder, rows, data_prefix=dict(img="images/train"))


def test_all_mistakes_are_counted(folder: Path) -> None:
    rows = [ROWS[0] | {"identifier": f"train-5-0-{n}", "label": "yes"} for n in range(30)]
    with pytest.raises(InputError, match="NLVR2 file: 30 errors(?s:.*)and 27 more"):
        build(folder, rows, data_prefix=dict(img="images/train"))
    with pytest.raises(InputError, match="it has no statements"):
        build(folder, "\n")


def test_missing_images_are_named(folder: Path) -> None:
    (folder / "dev/dev-8-1-img1.png").unlink()
    with pytest.raises(InputError, match="1 of the 2 images .*missing, the first: dev-8-1-img1"):
        build(folder, DEV, data_prefix=dict(img="dev"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "left,right,text,label\na.png,b.png,Two dogs.,TRUE\n"),
        ("t.jsonl", '{"left": "a.png", "right": "b.png", "text": "Two dogs.", "label": true}'),
    ],
)
def test_tables_of_statements(tmp_path: Path, name: str, content: str) -> None:
    for file in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / file), np.zeros((4, 4, 3), np.uint8))
    item = build(tmp_path, content, "NLVR2TableDataset", ann_file=name).get_data_info(0)
    assert item["img_path"] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert (item["gt_label"], item["texts"]) == (1, ["Two dogs."])
    assert item["identifier"] == ("2" if name == "t.csv" else "1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("left,right,text\na,b,c\n", "no column 'label'; .*set left_column and right_column and "),
        ("left,right,text,label\na.png,b.png,x,no\n", "line 2: label is 'no', expected 'True'"),
        ("left,right,text,label\na.png,,x,True\n", "line 2: right is '', expected the path"),
        ("left,right,text,label\na.png,b.png,,True\n", "line 2: text is '', expected a word"),
        ("left,right,text,label\n", "it has no statements"),
    ],
)
def test_mistakes_in_tables_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(tmp_path, content, "NLVR2TableDataset", ann_file="t.csv")
