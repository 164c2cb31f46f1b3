"""``mmbeit3 new-config --labels``: data of other formats train as COCO does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mmbeit3.apis.training import train
from mmbeit3.cli import main
from mmbeit3.config import load_config
from mmbeit3.datasets import CocoDataset
from mmbeit3.datasets.label_formats import read_labels, write_labels
from mmbeit3.datasets.shapes import CLASSES, make_shapes

CHANGED = "have changed since"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 10, 2, 128, seed=0)


@pytest.fixture
def data(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return made


def convert(made: Path, name: str, part: str = "train", place: str = "data") -> None:
    labels = read_labels(made / f"annotations/{part}.json", images=made / part)
    write_labels(labels, place, name, copy_images=True)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_one_step(name: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    convert(data, name)
    assert main(["new-config", "--labels", "data", "--out", "my.py"]) == 0
    words = capsys.readouterr().out
    assert "my_labels.json: 10 images of data" in words
    assert ("finds boxes alone" in words) == (name == "voc")
    options = {"train_cfg.max_iters": 1, "train_cfg.val_interval": 1}
    options |= {f"{loader}_dataloader.num_workers": 0 for loader in ("train", "val")}
    options |= {f"{loader}_dataloader.persistent_workers": False for loader in ("train", "val")}
    options |= {"default_hooks.checkpoint.interval": 1}
    train(load_config("my.py", options, "work"))
    log = next(Path("work").glob("*/*.log")).read_text()
    assert "bbox_mAP" in log
    assert CHANGED not in log


def test_parts_of_yolo_are_trained_and_validated_on(data: Path) -> None:
    for part in ("train", "val"):
        convert(data, "yolo", part, f"data/{part}")
    yaml = Path("data/train/data.yaml").read_text()
    for part in ("train", "val"):
        yaml = yaml.replace(f"{part}: images", f"{part}: {part}/images")
    Path("data/data.yaml").write_text(yaml)
    assert main(["new-config", "--labels", "data/data.yaml", "--out", "my.py"]) == 0
    cfg = load_config("my.py")
    for part, number in (("train", 10), ("val", 2)):
        dataset = cfg[f"{part}_dataloader"].dataset
        content = json.loads(Path(dataset.ann_file).read_text())
        assert len(content["images"]) == number
        assert dataset.data_prefix.img == f"{Path('data').resolve()}/{part}/images/"
        assert [each["name"] for each in content["categories"]] == list(CLASSES)


def test_validation_has_all_classes(data: Path) -> None:
    convert(data, "labelme", place="data")
    convert(data, "labelme", "val", "held_out")
    for path in Path("held_out").glob("*.json"):
        content = json.loads(path.read_text())
        content["shapes"] = [each for each in content["shapes"] if each["label"] == CLASSES[0]]
        path.write_text(json.dumps(content))
    assert main(["new-config", "--labels", "data", "--val", "held_out", "--out", "my.py"]) == 0
    content = json.loads(Path("my_labels_val.json").read_text())
    assert {each["name"] for each in content["categories"]} == set(CLASSES)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_changed_labels_are_noticed(name: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    convert(data, name)
    os.chdir("data")  # what is written lies among the labels
    assert main(["new-config", "--labels", ".", "--out", "my.py"]) == 0
    images = load_config("my.py").train_dataloader.dataset.data_prefix.img

    def is_said(file: str, folder: str = images) -> bool:
        capsys.readouterr()
        CocoDataset(ann_file=file, data_prefix={"img": folder})
        return CHANGED in capsys.readouterr().out

    assert not is_said("my_train.json")
    suffix = {"yolo": ".txt", "voc": ".xml", "labelme": ".json"}[name]
    file = next(each for each in sorted(Path().rglob(f"*{suffix}")) if each.stem.isdecimal())
    copy = file.with_stem("another")
    shutil.copy(file, copy)
    assert is_said("my_train.json")
    copy.unlink()
    assert not is_said("my_train.json")
    file.write_text(file.read_text() + "\n")
    assert is_said("my_val.json")
    os.chdir("..")
    shutil.copytree("data", "elsewhere")
    shutil.rmtree("data")  # the file stands for itself
    assert not is_said("elsewhere/my_train.json", images.replace("/data/", "/elsewhere/"))


def test_nothing_is_left_of_a_mistake(data: Path, capsys: pytest.CaptureFixture) -> None:
    convert(data, "yolo")
    Path("data/labels").rename("data/other")
    assert main(["new-config", "--labels", "data", "--out", "my.py"]) == 2
    assert "no object of the training images has a box" in capsys.readouterr().err
    assert not list(Path().glob("my*"))
    Path("data/other").rename("data/labels")
    assert main(["new-config", "--labels", "data", "--out", "my.py"]) == 0
    before = Path("my_labels.json").read_text()
    assert main(["new-config", "--labels", "data", "--out", "my.py"]) == 2
    Path("my.py").unlink()
    assert main(["new-config", "--labels", "data", "--out", "my.py"]) == 2
    assert "my_labels.json exists already" in capsys.readouterr().err
    assert Path("my_labels.json").read_text() == before
