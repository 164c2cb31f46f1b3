"""Segmentation at full size on ADE20K photographs, by the tools; takes minutes and gigabytes.

Prints seconds and peak memory of each step, for docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "beit3_mask2former"
IMAGE = "images/validation/ADE_val_00000001.jpg"
NAMES = [
    "upernet_beit3-base_512_ade20k",
    "mask2former_beit3-base_512_ade20k",
    "mask2former_beit3-base_640_ade20k",
    "mask2former_beit3-large_512_ade20k",
    "mask2former_beit3-large_640_ade20k",
    "mask2former_beit3-base-adapter_896_ade20k",
    "mask2former_beit3-large-adapter_896_ade20k",
    "mask2former_beit3-giant-adapter_896_ade20k",
]

pytestmark = pytest.mark.slow


def tool(name: str, *args: str | Path) -> tuple[str, float, float]:
    """What a tool printed, its seconds, and its peak memory in GB."""
    start = time.perf_counter()
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / name), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    assert status == 0, printed[-3000:]
    return printed, time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


@pytest.mark.parametrize("name", NAMES)
def test_takes_a_step_and_slides(name: str, data_root: Path, tmp_path: Path) -> None:
    config, crop = CONFIGS / f"{name}.py", (224, 224)
    log, seconds, memory = tool(
        "train.py", config, "--work-dir", tmp_path, "--cfg-options",
        "model.backbone.init_cfg=None",
        f"model.data_preprocessor.size={crop}",
        f"train_dataloader.dataset.data_root={data_root}/ade20k_sample",
        f"val_dataloader.dataset.data_root={data_root}/ade20k_sample",
        f"train_dataloader.dataset.pipeline.3.crop_size={crop}",
        # The sample has one training image.
        "train_dataloader.dataset.data_prefix.img_path=images/validation",
        "train_dataloader.dataset.data_prefix.seg_map_path=annotations/validation",
        "train_dataloader.batch_size=1",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_cfg.max_iters=1",
        "train_cfg.val_begin=10",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.save_optimizer=False",
    )  # fmt: skip
    (iteration,) = re.findall(r"Iter\(train\).*? time: ([\d.]+).*? loss: ([\d.]+)", log)
    print(f"\n{name}\n  step at 224: {iteration[0]} s, whole run {seconds:.0f} s, {memory:.1f} GB")

    image = data_root / "ade20k_sample" / IMAGE
    out = tmp_path / "inference"
    _, seconds, memory = tool("infer.py", config, tmp_path / "iter_1.pth", image, "--out-dir", out)
    summary = json.loads((out / "summary.json").read_text())
    print(f"  slide over one photograph: {summary['seconds']:.1f} s, {memory:.1f} GB")
    (entry,) = summary["images"]
    labels = np.asarray(Image.open(out / entry["label"]))
    assert labels.shape[::-1] == Image.open(image).size
    assert labels.max() < 150
    shutil.rmtree(tmp_path)  # the weights of all of them would fill a disk
