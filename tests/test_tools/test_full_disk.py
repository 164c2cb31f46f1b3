"""Commands on a full disk: what was there stays, the file is named, and the status tells."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import Objects365V1Dataset
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from PIL import Image

from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.converters.ade20k import NAME, expected_names

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
DETECTOR = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"
CLASSES = ("disk", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes, a config of the detector for them, and its weights."""
    folder = tmp_path_factory.mktemp("data")
    shapes = make_shapes(folder / "shapes", num_train=4, num_val=3)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(load_config(DETECTOR).model)
    meta = {"dataset_meta": {"classes": CLASSES}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, folder / "tiny.pth")
    val = f"dict(dataset=dict(data_root={str(shapes)!r}))"
    (folder / "config.py").write_text(
        f"_base_ = {str(DETECTOR)!r}\n"
        f"train_dataloader = dict(batch_size=2, num_workers=0, "
        f"dataset=dict(data_root={str(shapes)!r}))\n"
        f"val_dataloader = {val}\ntest_dataloader = {val}\n"
        f"val_evaluator = dict(ann_file={str(shapes / 'annotations' / 'val.json')!r})\n"
        "test_evaluator = val_evaluator\n"
        "train_cfg = dict(max_iters=2, val_interval=1000)\n"
        "model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=50)))\n"
    )
    return folder


@pytest.fixture
def disk(tmp_path: Path):
    """A file system of 160 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def run(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes, in pages of 4 kB."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(file.tell() // 4096 * 4096 - left // 4096 * 4096)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


COMMANDS = {
    "train": ["train.py", "{data}/config.py", "--work-dir", "{out}"],
    "test": [
        *("test.py", "{data}/config.py", "{data}/tiny.pth", "--work-dir", "{out}"),
        *("--out", "{out}/kept.json", "--show-dir", "{out}/pictures"),
    ],
    "test pickle": [
        *("test.py", "{data}/config.py", "{data}/tiny.pth", "--work-dir", "{out}"),
        *("--out", "{out}/kept.pkl"),
    ],
    "infer": ["infer.py", "{data}/config.py", "{data}/tiny.pth", "{data}/shapes/val"]
    + ["--out-dir", "{out}", "--device", "cpu"],
    "check": ["misc/check_dataset.py", "{data}/config.py", "--out-dir", "{out}"],
    "publish": ["model_converters/publish_model.py", "{data}/tiny.pth", "{out}/tiny.pth"],
    "convert to pth": ["model_converters/beit3_to_mmbeit3.py", "{data}/tiny.pth", "{out}/a.pth"],
    "convert to safetensors": [
        *("model_converters/beit3_to_mmbeit3.py", "{data}/tiny.pth", "{out}/a.safetensors")
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 12_288])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_leaves_what_was_good(data: Path, disk: Path, command: str, left: int) -> None:
    out = disk / "out"
    script, *options = (part.format(data=data, out=out) for part in COMMANDS[command])
    status, text = run(ROOT / "tools" / script, *options)
    assert status == 0, text
    before = contents(out)
    if command == "publish":  # the same file would be found
        options[0] = str(data / "other.pth")
        content = torch.load(data / "tiny.pth", weights_only=True)
        content["meta"]["other"] = left
        torch.save(content, options[0])
    fill(disk, left)
    status, text = run(ROOT / "tools" / script, *options)
    assert status == 2 and "Traceback" not in text, (status, text)
    line = next(line for line in text.splitlines() if line.startswith("error: "))
    assert str(out) in line and "cannot be written (No space left on device)" in line, text
    after = contents(out)
    assert before == {name: after.get(name) for name in before}
    (disk / "ballast").unlink()
    status, text = run(ROOT / "tools" / script, *options)
    assert status == 0, text
    assert contents(out).keys() >= before.keys()


def picture(shape: tuple[int, ...], highest: int, kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, highest + 1, shape, np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def make_ade20k(folder: Path) -> None:
    image, labels = picture((150, 150, 3), 255, "JPEG"), picture((150, 150), 150, "PNG")
    with zipfile.ZipFile(folder / "ade.zip", "w") as archive:
        for name in expected_names(3, 2):
            archive.writestr(f"{NAME}/{name}", image if name.endswith("jpg") else labels)


def make_coco_stuff(folder: Path) -> None:
    image, labels = picture((150, 150, 3), 255, "JPEG"), picture((150, 150), 10, "PNG")
    with zipfile.ZipFile(folder / "maps.zip", "w") as archive:
        for split, count in (("train2017", 3), ("val2017", 2)):
            (folder / "coco" / split).mkdir(parents=True)
            for number in range(count):
                archive.writestr(f"{split}/{number:012d}.png", labels)
                (folder / "coco" / split / f"{number:012d}.jpg").write_bytes(image)


def make_objects365(folder: Path) -> None:
    classes = Objects365V1Dataset.METAINFO["classes"]
    for split in ("train", "val"):
        (folder / split).mkdir()
        names = [f"obj365_{split}_{number:012d}.jpg" for number in range(5)]
        images = [
            {"id": i, "file_name": name, "width": 150, "height": 150}
            for i, name in enumerate(names)
        ]
        boxes = [
            {"id": i, "image_id": i % 5, "category_id": 1 + i % 365, "iscrowd": 0}
            | {"bbox": [5, 5, 20, 10], "area": 200}
            for i in range(500)
        ]
        content = {"images": images, "annotations": boxes}
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        (folder / f"objects365_{split}.json").write_text(json.dumps(content))
        with zipfile.ZipFile(folder / split / "patch0.zip", "w") as archive:
            for name in names:
                archive.writestr(name, picture((150, 150, 3), 255, "JPEG"))


CALL = "from mmbeit3.commands.console import run\nfrom mmbeit3.datasets.converters import {0}\n"
CALL += "run(lambda: print({0}({1})))"
CONVERTERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "ADE20K": (
        make_ade20k,
        "prepare_ade20k",
        "'{data}/ade.zip', '{out}', num_train=3, num_val=2",
    ),
    "COCO-Stuff": (
        make_coco_stuff,
        "prepare_coco_stuff",
        "'{data}/maps.zip', '{data}/coco', '{out}', num_train=3, num_val=2, num_workers=1",
    ),
    "Objects365": (
        make_objects365,
        "prepare_objects365",
        "'{data}', '{out}', num_workers=1",
    ),
}


def finished(folder: Path) -> dict[str, bytes]:
    """What a data set is made of, without the converter's own notes."""
    return {
        name: content
        for name, content in contents(folder).items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 12_288, 49_152])
@pytest.mark.parametrize("name", CONVERTERS)
def test_a_data_set_is_gone_on_with_when_there_is_room(
    tmp_path: Path, disk: Path, name: str, left: int
) -> None:
    make, function, arguments = CONVERTERS[name]
    data, out = tmp_path / "data", disk / "out"
    data.mkdir()
    make(data)

    def convert(folder: Path) -> tuple[int, str]:
        return run("-c", CALL.format(function, arguments.format(data=data, out=folder)))

    def on_full_disk(room: int) -> None:
        fill(disk, room)
        status, text = convert(out)
        (disk / "ballast").unlink()
        assert status == 2 and "Traceback" not in text, (status, text)
        line = next(line for line in text.splitlines() if line.startswith("error: "))
        assert str(disk) in line and ("No space left" in line or "GB free" in line), text
        assert finished(out).items() <= expected.items()

    status, text = convert(tmp_path / "reference")
    assert status == 0, text
    expected = finished(tmp_path / "reference")
    on_full_disk(left)
    assert convert(out)[0] == 0
    assert finished(out) == expected
    if name == "ADE20K":  # a finished one is not mended
        return
    lost = max(expected, key=lambda file: len(expected[file]))
    (out / lost).unlink()
    on_full_disk(0)
    assert finished(out) == {key: value for key, value in expected.items() if key != lost}
    assert convert(out)[0] == 0
    assert finished(out) == expected
