"""Commands on a full disk: what was there stays, the file is named, and the status tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes

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
