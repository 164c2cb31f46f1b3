"""What may never end is refused by its name wherever a file is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmseg.datasets.transforms import LoadAnnotations as LoadSegAnnotations
from mmseg.registry import DATASETS
from PIL import Image
from torch import nn

from mmbeit3.apis.converting import convert_checkpoint
from mmbeit3.apis.testing import test as run_test
from mmbeit3.checkpoint import load_safely, load_weights, read_checkpoint
from mmbeit3.checkpoint.saving import publish_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import CocoDataset, SegFolderDataset
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.engine.checkpoint_hook import find_checkpoint
from mmbeit3.inference.folder import infer_folder
from mmbeit3.utils import InputError
from tests.test_datasets.fuzzing import time_limit

READERS: dict[str, Callable[..., object]] = {}


def reader(suffix: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Enter what reads a file of this suffix, given it and perhaps a config."""

    def enter(function: Callable[..., object]) -> Callable[..., object]:
        READERS[f"{function.__name__}{suffix}"] = function
        return function

    return enter


@reader(".py")
@reader(".json")
@reader(".yaml")
def a_config(file: Path) -> None:
    load_config(file)


@reader(".py")
def a_base_of_a_config(file: Path) -> None:
    (file.parent / "child.py").write_text(f"_base_ = {str(file)!r}\nmodel = dict()\n")
    load_config(file.parent / "child.py")


@reader(".json")
def a_base_of_data(file: Path) -> None:
    (file.parent / "child.json").write_text(f'{{"_base_": "{file.name}", "model": {{}}}}')
    load_config(file.parent / "child.json")


@reader(".pth")
@reader(".safetensors")
def a_checkpoint(file: Path) -> None:
    read_checkpoint(file)


@reader(".pth")
def weights_of_a_model(file: Path) -> None:
    load_weights(nn.Linear(1, 1), read_checkpoint(file))


@reader(".pth")
def what_is_published(file: Path) -> None:
    publish_checkpoint(file, file.with_name("published.pth"))


@reader(".pth")
def what_is_converted(file: Path) -> None:
    convert_checkpoint(file, file.with_name("converted.pth"))


@reader(".pth")
def weights_of_a_test(file: Path, cfg: Config) -> None:
    cfg.test_evaluator, cfg.work_dir = {"type": "CocoMetric"}, str(file.parent)
    run_test(cfg, file)


@reader(".pth")
def weights_of_an_inference(file: Path, cfg: Config) -> None:
    Image.new("RGB", (8, 8)).save(file.parent / "a.png")
    infer_folder(cfg, file, file.parent, file.parent / "out")


@reader(".json")
def annotations(file: Path) -> None:
    CocoDataset(ann_file=str(file), data_prefix={"img": ""}, pipeline=[])


@reader(".json")
def annotations_of_mmdet(file: Path) -> None:
    MMDetCocoDataset(ann_file=str(file), pipeline=[])


@reader(".json")
@reader(".pkl")
def annotations_of_mmengine(file: Path) -> None:
    BaseDataset(ann_file=str(file))


@reader(".txt")
def names_of_images(file: Path) -> None:
    folder = file.parent
    (folder / "classes.txt").write_text("a\nb\n")
    for name in ("images", "maps"):
        (folder / name).mkdir()
        Image.new("L", (4, 4)).save(folder / name / "a.png")
    DATASETS.build(
        {
            "type": SegFolderDataset,
            "data_root": str(folder),
            "classes_file": "classes.txt",
            "ann_file": file.name,
            "data_prefix": {"img_path": "images", "seg_map_path": "maps"},
        }
    )


@reader(".txt")
def lines_by_mmengine(file: Path) -> None:
    list_from_file(file)


@reader(".txt")
@reader(".json")
def a_class_list(file: Path) -> None:
    read_class_list(file)


@reader(".txt")
def classes_of_a_data_set(file: Path) -> None:
    (file.parent / "ann.json").write_text('{"images": [], "annotations": [], "categories": []}')
    ann_file = str(file.parent / "ann.json")
    CocoDataset(ann_file=ann_file, metainfo={"classes": str(file)}, pipeline=[])


@reader(".png")
def a_label_map_of_mmseg(file: Path) -> None:
    sample = {"seg_map_path": str(file), "reduce_zero_label": False, "seg_fields": []}
    LoadSegAnnotations()(sample)


@reader(".png")
def a_label_map_of_mmcv(file: Path) -> None:
    LoadAnnotations(with_bbox=False, with_label=False, with_seg=True)({"seg_map_path": str(file)})


@reader(".jpg")
def an_image_of_mmcv(file: Path) -> None:
    LoadImageFromFile()({"img_path": str(file)})


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # longer names are refused


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "character device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_may_never_end_is_named(
    name: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    KINDS[kind](file)
    load_safely()
    function = READERS[name]
    needs_config = function.__code__.co_argcount == 2
    arguments = [request.getfixturevalue("color_cfg")] if needs_config else []
    with time_limit(0), pytest.raises(InputError) as refused:
        function(file, *arguments)
    assert f"{file} " in str(refused.value) and f"it is a {kind}" in str(refused.value)


@pytest.mark.parametrize("read", [load_config, read_checkpoint, read_class_list])
def test_a_name_that_is_too_long_is_named(read: Callable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="xxx.py cannot be read: its name is too long"):
        read(tmp_path / f"{'x' * 300}.py")


def test_a_work_dir_of_pipes_has_no_checkpoint(tmp_path: Path) -> None:
    for name in ("iter_1.pth", "iter_20.pth", "last_checkpoint"):
        os.mkfifo(tmp_path / name)
    with time_limit(0):
        assert find_checkpoint(tmp_path) is None
