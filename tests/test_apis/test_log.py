"""What a training of the tiny models shows before its first line, and what its log file keeps."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTOR = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"
SEGMENTOR = CONFIGS / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py"
KEPT = (
    "System environment:",
    "PyTorch compiling details:",
    "Config:\n",
    "optim_wrapper",
    "Hooks will be executed",
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=1)


@pytest.mark.parametrize(
    ("config", "term", "metrics"),
    [
        (DETECTOR, "s0.loss_cls: ", r"coco/bbox_mAP [\d.]+, coco/segm_mAP [\d.]+"),
        (SEGMENTOR, "decode.d0.loss_dice: ", r"aAcc [\d.]+, mIoU [\d.]+, mAcc [\d.]+"),
    ],
    ids=["detector", "segmentor"],
)
def test_a_short_training(
    config: Path,
    term: str,
    metrics: str,
    shapes: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options: dict = {"train_dataloader.batch_size": 2, "default_hooks.logger.interval": 1}
    options |= {"train_cfg.max_iters": 1, "train_cfg.val_interval": 1}
    options |= {f"{kind}_dataloader.num_workers": 0 for kind in ("train", "val")}
    options |= {f"{kind}_dataloader.persistent_workers": False for kind in ("train", "val")}
    for kind in ("train", "val", "test"):
        options[f"{kind}_dataloader.dataset.data_root"] = str(shapes)
    if config is DETECTOR:
        options["val_evaluator.ann_file"] = str(shapes / "annotations" / "val.json")
        options["test_evaluator.ann_file"] = str(shapes / "annotations" / "val.json")
    cfg = load_config(config, options, tmp_path)
    with warnings.catch_warnings():  # pytest would collect them
        warnings.showwarning = lambda message, *_: print("python warns", message)
        warnings.resetwarnings()
        for category in (DeprecationWarning, ImportWarning, ResourceWarning):  # as Python does
            warnings.simplefilter("ignore", category)
        train(cfg)
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    (first,) = (number for number, line in enumerate(lines) if "iteration 1/1  loss" in line)
    assert first <= 30
    assert "site-packages" not in out and "deprecat" not in out and "python warns" not in out
    assert term not in out and "data_time" not in out and "+--" not in out
    assert re.search(f"validation after iteration 1: {metrics}\n", out)
    assert len({line[15:] for line in lines}) == len(lines)  # nothing twice
    (log,) = tmp_path.glob("*/*.log")
    assert str(log) in out
    kept = log.read_text()
    assert all(part in kept for part in (*KEPT, term, "data_time: ", "grad_norm: ", "+--"))
