from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.checks import coco as coco_checks
from mmbeit3.engine import prepare
from mmbeit3.utils.read_once import FilesReadOnce, read_once

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each annotation file and checkpoint was read, by its name."""
    found: Counter[str] = Counter()

    def counting(read):
        def call(path, *args, **kwargs):
            found[Path(path).name] += 1
            return read(path, *args, **kwargs)

        return call

    monkeypatch.setattr(coco_checks, "read_text", counting(coco_checks.read_text))
    for module in (prepare, "mmbeit3.engine.runner"):
        name = module if isinstance(module, str) else module.__name__
        read = prepare.read_checkpoint
        monkeypatch.setattr(f"{name}.read_checkpoint", counting(read))
    return found


def test_a_start_reads_each_file_once(tmp_path: Path, reads: Counter[str]) -> None:
    shapes = make_shapes(tmp_path / "shapes", 4, 2, 64, seed=0)
    options = {
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_cfg.max_iters": 1,
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.interval": 1,
        "val_evaluator.ann_file": str(shapes / "annotations" / "val.json"),
        "test_evaluator.ann_file": str(shapes / "annotations" / "val.json"),
    }
    for split in ("train", "val", "test"):
        options[f"{split}_dataloader.dataset.data_root"] = str(shapes)
    path = CONFIGS / "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
    train(load_config(path, options, tmp_path / "work"))
    assert reads == {"train.json": 1, "val.json": 1}
    reads.clear()
    checkpoint = tmp_path / "work" / "iter_1.pth"
    run_test(load_config(path, options, tmp_path / "work"), checkpoint)
    assert reads == {"iter_1.pth": 1, "val.json": 1}


def test_what_was_read_is_kept_until_it_changes_or_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("1")
    files = FilesReadOnce()
    assert read_once("text", path, path.read_text) == "1"
    assert read_once("text", path, lambda: "2") == "1"
    assert read_once("other", path, lambda: "4") == "4"
    path.write_text("changed")
    assert read_once("text", path, path.read_text) == "changed"
    files.forget()
    assert read_once("text", path, lambda: "5") == "5"


def test_nothing_is_kept_after_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    files = FilesReadOnce()
    read_once("text", tmp_path / "a.json", lambda: "1")
    del files
    assert read_once("text", tmp_path / "a.json", lambda: "2") == "2"
