"""The tools on real COCO photographs, run as a user runs them. Minutes on a CPU: ``-m slow``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mmbeit3.checkpoint import load_weights, official_state_dict
from mmbeit3.models import BEiT3
from mmbeit3.registry import DATASETS, MODELS

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs/beit3_vitdet/cascade-mask-rcnn_beit3-base_lsj-1024_coco.py"
TINY = Path(__file__).with_name("tiny_coco_sample.py")
TINY_CAPTIONS = Path(__file__).with_name("tiny_coco_captions.py")
TINY_WRITING = Path(__file__).with_name("tiny_coco_writing.py")
TINY_ADE20K = Path(__file__).with_name("tiny_ade20k_sample.py")

pytestmark = pytest.mark.slow


def tool(name: str, *args: str | Path, data: Path) -> str:
    """Run a tool from another folder than the project's; what it printed."""
    command = [sys.executable, ROOT / "tools" / name, *args]
    run = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=data,
        env={**os.environ, "MMBEIT3_DATA": str(data)},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def losses(log: str) -> list[float]:
    return [float(value) for value in re.findall(r"Iter\(train\).*? loss: ([\d.]+)", log)]


def test_base_config_takes_training_steps_from_official_weights(
    data_root: Path, tmp_path: Path
) -> None:
    coco = data_root / "coco_sample"
    tower = BEiT3("base", window_size=0, with_cls_token=True, final_norm=True)
    tower.init_weights()
    weights = official_state_dict(tower.state_dict())
    pretrained = tmp_path / "beit3_base_itc_patch16_224.pth"
    torch.save({"model": {name: value.half() for name, value in weights.items()}}, pretrained)
    log = tool(
        "train.py", BASE, "--work-dir", tmp_path, "--cfg-options",
        f"model.backbone.init_cfg.checkpoint={pretrained}",
        f"train_dataloader.dataset.data_root={coco}/",
        f"val_dataloader.dataset.data_root={coco}/",
        f"test_dataloader.dataset.data_root={coco}/",
        f"val_evaluator.ann_file={coco}/annotations/instances_val2017.json",
        f"test_evaluator.ann_file={coco}/annotations/instances_val2017.json",
        "train_dataloader.batch_size=1",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=2",
        "train_cfg.val_begin=10",  # 47 images at this size take a CPU many minutes
        "default_hooks.checkpoint.interval=2",
        "default_hooks.logger.interval=1",
        data=data_root,
    )  # fmt: skip
    assert f"from {pretrained} (official layout, float16)" in log
    assert len(losses(log)) == 2
    assert (tmp_path / "iter_2.pth").stat().st_size > 1e9  # weights and both moments of AdamW


def test_tiny_learns_photographs_by_heart(data_root: Path, tmp_path: Path) -> None:
    log = tool("train.py", TINY, "--work-dir", tmp_path, data=data_root)
    values = losses(log)
    print(f"loss {values[0]:.2f} -> {values[-1]:.2f}")
    checkpoint = next(tmp_path.glob("iter_*.pth"))
    metrics = {}
    for backend in ("faster-coco-eval", "pycocotools"):
        out = tmp_path / backend
        tool(
            "test.py", TINY, checkpoint, "--work-dir", out,
            "--cfg-options", f"test_evaluator.backend={backend}",
            data=data_root,
        )  # fmt: skip
        metrics[backend] = json.loads((out / "metrics.json").read_text())["metrics"]
    assert metrics["faster-coco-eval"] == pytest.approx(metrics["pycocotools"], abs=1e-6)
    print(metrics["pycocotools"])
    assert values[-1] <= values[0] / 5
    assert metrics["pycocotools"]["coco/bbox_mAP_50"] >= 0.5


def test_tiny_learns_ade20k_by_heart(data_root: Path, tmp_path: Path) -> None:
    tool("train.py", TINY_ADE20K, "--work-dir", tmp_path, data=data_root)
    checkpoint = next(tmp_path.glob("iter_*.pth"))
    tool("test.py", TINY_ADE20K, checkpoint, "--work-dir", tmp_path, data=data_root)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    print(metrics)
    assert metrics["aAcc"] >= 90


def small_photographs(
    coco: Path, folder: Path, splits: tuple[str, ...] = ("train2017", "val2017")
) -> dict[str, list]:
    """Captioned photographs at 64 pixels, so that a step reads them fast."""
    (folder / "images").mkdir()
    data: dict[str, list] = {"images": [], "annotations": []}
    for split in splits:
        file = coco / "annotations" / f"captions_{split}.json"
        for key, entries in json.loads(file.read_text()).items():
            if key in data:
                data[key] += entries
        for image in data["images"]:
            if (coco / split / image["file_name"]).is_file():
                pixels = cv2.imread(str(coco / split / image["file_name"]))
                pixels = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(folder / "images" / image["file_name"]), pixels)
                image |= dict(width=64, height=64)
    (folder / "captions.json").write_text(json.dumps(data))
    return data


def test_tiny_learns_captions_by_heart(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """51 photographs and their 255 captions: each finds the other at the first place."""
    tokenizer = data_root / "tokenizer" / "beit3.spm"
    if not tokenizer.is_file():
        pytest.skip(f"the official tokenizer is not at {tokenizer}")
    monkeypatch.setenv("MMBEIT3_TOKENIZER", str(tokenizer))
    small_photographs(data_root / "coco_sample", tmp_path)
    run = tmp_path / "run"
    log = tool("train.py", TINY_CAPTIONS, "--work-dir", run, data=tmp_path)
    print(log)
    checkpoint = next(run.glob("iter_*.pth"))
    tool("test.py", TINY_CAPTIONS, checkpoint, "--work-dir", tmp_path / "test", data=tmp_path)
    metrics = json.loads(next((tmp_path / "test").rglob("metrics.json")).read_text())["metrics"]
    print(metrics)
    assert metrics["retrieval/TR@1"] == metrics["retrieval/IR@1"] == 100


def test_tiny_writes_captions_by_heart(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """26 photographs and one caption of each: beam search writes 90 % of them letter by letter."""
    tokenizer = data_root / "tokenizer" / "beit3.spm"
    if not tokenizer.is_file():
        pytest.skip(f"the official tokenizer is not at {tokenizer}")
    monkeypatch.setenv("MMBEIT3_TOKENIZER", str(tokenizer))
    data = small_photographs(data_root / "coco_sample", tmp_path, ("train2017",))
    firsts = {entry["image_id"]: entry for entry in reversed(data["annotations"])}
    data["annotations"] = list(firsts.values())
    (tmp_path / "captions.json").write_text(json.dumps(data))
    run = tmp_path / "run"
    print(tool("train.py", TINY_WRITING, "--work-dir", run, data=tmp_path))
    monkeypatch.setenv("MMBEIT3_DATA", str(tmp_path))
    cfg = Config.fromfile(TINY_WRITING)
    init_default_scope("mmbeit3")
    model = MODELS.build(cfg.model).eval()
    load_weights(model, next(run.glob("iter_*.pth")))
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    samples = model.test_step(pseudo_collate([dataset[index] for index in range(len(dataset))]))
    right = [" ".join(sample.texts[0].split()) == sample.pred_caption for sample in samples]
    for sample in samples:
        print(f"{sample.pred_score:.3f} {sample.pred_caption!r} / {sample.texts[0]!r}")
    print(f"{sum(right)} of {len(right)} captions are written exactly")
    assert len(right) == 26 and sum(right) >= 0.9 * len(right)
