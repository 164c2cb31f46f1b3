from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbeit3.apis.training import train
from mmbeit3.cli import main
from mmbeit3.config import check_arguments, load_config
from mmbeit3.datasets.shapes import make_shapes


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_shapes(tmp_path / "shapes", 10, 2, 128, seed=0)


def write(data: Path, *options: str) -> int:
    arguments = ["--coco", "shapes/annotations/train.json", "--images", "shapes/train"]
    return main(["new-config", *arguments, *options])


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_a_config_of_each_size_is_complete(size: str, data: Path) -> None:
    val = ("--val", "shapes/annotations/val.json", "--val-images", "shapes/val")
    assert write(data, *val, "--size", size, "--out", "elsewhere/my.py") == 0
    text = Path("elsewhere/my.py").read_text()
    compile(text, "my.py", "exec")
    cfg = load_config("elsewhere/my.py")
    check_arguments(cfg, "train")
    assert cfg.model.backbone.arch == size
    assert Path(cfg.train_dataloader.dataset.ann_file).is_absolute()
    widths = dict(tiny=192, small=384, base=768, large=1024)
    assert cfg.model.neck.in_channels == widths[size]


def test_it_trains_and_splits_without_val(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(data) == 0
    assert "2 of 10 images" in capsys.readouterr().out
    parts = [json.loads(Path(f"my_config_{part}.json").read_text()) for part in ("train", "val")]
    ids = [{image["id"] for image in part["images"]} for part in parts]
    assert [len(part) for part in ids] == [8, 2] and not ids[0] & ids[1]
    for part, own in zip(parts, ids, strict=True):
        assert {entry["image_id"] for entry in part["annotations"]} <= own
    options = {"train_cfg.max_iters": 1, "train_cfg.val_interval": 1}
    options |= {f"{loader}_dataloader.num_workers": 0 for loader in ("train", "val")}
    options |= {f"{loader}_dataloader.persistent_workers": False for loader in ("train", "val")}
    train(load_config("my_config.py", options, "work"))
    assert Path("work/iter_1.pth").is_file()


def test_what_is_there_is_never_overwritten(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_config.py").write_text("mine")
    assert write(data) == 2
    assert "exists already" in capsys.readouterr().err
    assert Path("my_config.py").read_text() == "mine"


def test_wrong_data_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.json").write_text("[]")
    for file, said in (("absent.json", "absent.json"), ("list.json", "has no images")):
        assert main(["new-config", "--coco", file, "--images", "shapes/train"]) == 2
        assert said in capsys.readouterr().err
    assert not Path("my_config.py").exists()
