from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmbeit3.apis.training import train
from mmbeit3.cli import main
from mmbeit3.config import check_arguments, load_config
from mmbeit3.config.data_checks import check_training_data
from mmbeit3.datasets.shapes import CLASSES, make_shapes

SIZES = ("tiny", "small", "base", "large")
WIDTHS = dict(tiny=192, small=384, base=768, large=1024)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 10, 2, 128, seed=0)


@pytest.fixture
def data(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\n".join(("background", *CLASSES)))
    return Path(shutil.copytree(made, tmp_path / "shapes"))


def detection(*options: str, coco: str = "shapes/annotations/train.json") -> int:
    return main(["new-config", "--coco", coco, "--images", "shapes/train", *options])


def segmentation(*options: str, names: str = "names.txt") -> int:
    folders = ("--images", "shapes/train", "--masks", "shapes/semantic/train")
    return main(["new-config", *folders, "--classes", names, *options])


def one_step(config: str) -> Path:
    options = {"train_cfg.max_iters": 1, "train_cfg.val_interval": 1}
    options |= {f"{loader}_dataloader.num_workers": 0 for loader in ("train", "val")}
    options |= {f"{loader}_dataloader.persistent_workers": False for loader in ("train", "val")}
    options |= {"default_hooks.checkpoint.interval": 1}
    return train(load_config(config, options, "work")) / "iter_1.pth"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_config_of_each_size_is_complete(task: str, size: str, data: Path) -> None:
    val = ("--val-images", "shapes/val", "--size", size, "--out", "elsewhere/my.py")
    if task == "detection":
        assert detection("--val", "shapes/annotations/val.json", *val) == 0
    else:
        assert segmentation("--val-masks", "shapes/semantic/val", *val) == 0
    text = Path("elsewhere/my.py").read_text()
    compile(text, "my.py", "exec")
    assert "{" not in text
    cfg = load_config("elsewhere/my.py")
    check_arguments(cfg, "train")
    views = [steps[0] for steps in cfg.tta_pipeline_flip[1].transforms]
    assert views[0] == cfg.test_pipeline[1] and views[2] == cfg.test_pipeline[2]
    assert cfg.model.backbone.arch == size
    assert cfg.model.neck.in_channels == WIDTHS[size]
    paths = (
        {"ann_file": cfg.train_dataloader.dataset.ann_file}
        if task == "detection"
        else cfg.train_dataloader.dataset.data_prefix
    )
    assert all(Path(path).is_absolute() for path in paths.values())
    edited = text.split("# ============ edit these")[1].split("# ============ sometimes")[0]
    assert all("#" in line for line in edited.splitlines()[5:] if line)  # says why


def test_detection_trains_and_splits_without_val(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detection() == 0
    assert "2 of 10 images" in capsys.readouterr().out
    parts = [json.loads(Path(f"my_config_{part}.json").read_text()) for part in ("train", "val")]
    ids = [{image["id"] for image in part["images"]} for part in parts]
    assert [len(part) for part in ids] == [8, 2] and not ids[0] & ids[1]
    for part, own in zip(parts, ids, strict=True):
        assert {entry["image_id"] for entry in part["annotations"]} <= own
    assert one_step("my_config.py").is_file()


def test_segmentation_trains_and_splits_without_val(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segmentation() == 0
    said = capsys.readouterr().out
    assert "10 masks, pixels by value: 0 background 8" in said and "5 ring" in said
    assert "no --val-images: 2 of 10 images" in said
    parts = [Path(f"my_config_{part}.txt").read_text().split() for part in ("train", "val")]
    assert [len(part) for part in parts] == [8, 2] and not set(parts[0]) & set(parts[1])
    assert one_step("my_config.py").is_file()


@pytest.mark.parametrize("without", [1, "all"])
def test_objects_without_masks_make_a_detector_of_boxes(
    without: int | str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data / "annotations" / "train.json"
    content = json.loads(file.read_text())
    objects = content["annotations"]
    for entry in objects[: len(objects) if without == "all" else without]:
        entry.pop("segmentation")
    file.write_text(json.dumps(content))
    assert detection() == 0
    number = len(objects) if without == "all" else 1
    said = capsys.readouterr().out
    assert f"{number} of the {len(objects)} objects have no mask" in said and "boxes alone" in said
    cfg = load_config("my_config.py")
    assert cfg.model.roi_head.mask_head is None and cfg.val_evaluator.metric == "bbox"
    check_training_data(cfg)
    if without == "all":
        assert one_step("my_config.py").is_file()


def change_masks(data: Path, change) -> None:  # noqa: ANN001
    for file in (data / "semantic" / "train").iterdir():
        Image.fromarray(change(np.array(Image.open(file)))).save(file)


def test_masks_that_count_from_one_are_found_out(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_masks(data, lambda mask: mask + 1)
    assert segmentation() == 0
    assert "1 background" in capsys.readouterr().out
    cfg = load_config("my_config.py")
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.reduce_zero_label is True


@pytest.mark.parametrize(
    ("names", "option", "said"),
    [
        (CLASSES, (), "value 5: "),
        (CLASSES, ("--no-reduce-zero-label",), "value 5: "),
        (("wood", *CLASSES, "moss"), (), "--no-reduce-zero-label"),
        (("wood", *CLASSES, "moss"), ("--no-reduce-zero-label",), None),
        (CLASSES, ("--reduce-zero-label",), None),
    ],
)
def test_values_are_compared_with_the_classes(
    names: tuple[str, ...],
    option: tuple[str, ...],
    said: str | None,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("few.txt").write_text("\n".join(names))
    assert segmentation(*option, names="few.txt") == (2 if said else 0)
    message = capsys.readouterr().err
    assert (said or "") in message and len(message.splitlines()) <= 5
    assert Path("my_config.py").exists() is (said is None)
    if not said:
        expected = option == ("--reduce-zero-label",)
        assert load_config("my_config.py").train_dataloader.dataset.reduce_zero_label is expected


def test_what_is_there_is_never_overwritten(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for own in ("my_config.py", "my_config_val.json", "my_config_train.txt"):
        Path(own).write_text("mine")
        write = segmentation if own.endswith("txt") else detection
        assert write() == 2
        assert "exists already" in capsys.readouterr().err
        assert Path(own).read_text() == "mine"
        Path(own).unlink()
        assert not list(Path().glob("my_config*"))


def test_wrong_data_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.json").write_text("[]")
    for file, said in (("absent.json", "absent.json"), ("list.json", "top level is a list")):
        assert detection(coco=file) == 2
        assert said in capsys.readouterr().err
    assert not Path("my_config.py").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--images", "shapes/train"), "--questions, --statements given: give --coco TRAIN.json"),
        (
            ("--images", "shapes/train", "--masks", "shapes/semantic/train"),
            "--masks needs --classes NAMES.txt: one class a line",
        ),
        (("--coco", "COCO", "--images", "shapes/train", "--classes", "names.txt"), "--classes: is"),
        (("--coco", "COCO", "--images", "shapes/train", "--masks", "m"), "both --coco and --masks"),
        (("--coco", "COCO", "--images", "shapes/val"), "--images: the 10 images that"),
        (("--coco", "COCO", "--images", "shapes/trian"), "folder of files; folders there: train\n"),
        (
            ("--coco", "COCO", "--images", "shapes/jpg"),
            "there: annotations, semantic, train, val\n",
        ),
        (("--coco", "COCO", "--images", "shapse/train"), "/shapse does not exist either"),
        (("--coco", "COCO", "--images", "shapes/train", "--val-images", "shapes/val"), "--val"),
        (("--coco", "COCO", "--images", "shapes/train", "--out", "my"), "--out: is my, expected"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = "shapes/annotations/train.json"
    shutil.rmtree("shapes/val")
    Path("shapes/val").mkdir()
    assert main(["new-config", *(coco if word == "COCO" else word for word in options)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and said in message and len(message.splitlines()) == 1
    assert not list(Path().glob("my*"))


def test_the_folder_that_has_the_images_is_named(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (data / "val").iterdir():
        file.rename(file.with_name(f"v{file.name}"))
    annotations = data / "annotations" / "val.json"
    annotations.write_text(annotations.read_text().replace('"000', '"v000'))
    assert detection("--val", "shapes/annotations/val.json") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --val-images: the 2 images that ") and "val.json" in message
    assert f"they are in {data}/val: give --val-images {data}/val\n" in message
    (data / "train" / "000000.jpg").unlink()  # some are there: no other folder helps
    assert detection() == 2
    assert "1 of the 10 images" in capsys.readouterr().err


def test_files_that_are_trained_on_and_validated_on_are_counted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = ("--val", "shapes/annotations/val.json")  # its files are called as those of train
    assert detection(*val) == 0
    said = capsys.readouterr().out
    assert "warning: 2 of the 2 files to validate on are trained on too" in said
    assert "give --val-images" in said
    assert detection(*val, "--val-images", "shapes/val", "--out", "other.py") == 0
    assert "warning" not in capsys.readouterr().out
