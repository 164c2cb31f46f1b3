"""Classifiers by the tools: trained, tested, and asked for other classes, as a config says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmbeit3 import load as load_model
from mmbeit3.apis import infer_folder, report_config
from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError

ROOT = Path(__file__).parents[2]
COLORS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
CONFIG = """
_base_ = {runtime!r}
model = {model!r}
train_pipeline = [
    dict(type="LoadImageFromFile"), dict(type="TimmAugment", scale=32, erase_prob=0.5),
    dict(type="PackImageText")]
test_pipeline = [
    dict(type="LoadImageFromFile"), dict(type="ResizeCenterCrop", scale=32),
    dict(type="PackImageText")]
dataset = dict(type="mmbeit3.ImageFolderDataset", data_root={data!r})
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(dataset, data_prefix=dict(img_path="train"), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=2, num_workers=0, drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(dataset, data_prefix=dict(img_path="val"), pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.AccuracyMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=40, val_interval=40)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9, flat_decay_mult=0.0))
param_scheduler = [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=5)]
default_hooks = dict(checkpoint=dict(interval=40))
randomness = dict(seed=0)
"""


def write_color(path: Path, color: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 60, (40, 50, 3))
    cv2.imwrite(str(path), np.clip(np.array(COLORS[color]) * 0.75 + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for index in range(4):
        for color in ("red", "blue"):
            write_color(tmp_path / "data" / "train" / color / f"{index}.png", color, index)
        write_color(tmp_path / "data" / "val" / "red" / f"{index}.png", "red", 10 + index)
        write_color(tmp_path / "data" / "val" / "blue" / f"{index}.png", "blue", 20 + index)
    return tmp_path / "data"


def linear() -> dict:
    tower = dict(type="mmbeit3.BEiT3", arch=ARCH, img_size=32, patch_size=8, window_size=0)
    return dict(
        type="mmbeit3.BEiT3ImageClassifier",
        backbone=dict(tower, with_cls_token=True),
        num_classes=1000,
        init_scale=1.0,
        mixup=0.2,
        label_smoothing=0.1,
        data_preprocessor=dict(type="mmbeit3.ImageTextPreprocessor"),
    )


def by_names(tokenizer_file: Path) -> dict:
    words = Tokenizer(tokenizer_file).vocab_size
    tower = dict(type="mmbeit3.BEiT3Multiway", arch=ARCH, img_size=32, patch_size=8)
    return dict(
        type="mmbeit3.BEiT3TextClassifier",
        encoder=dict(tower, vocab_size=words, max_tokens=64),
        label_smoothing=0.1,
        data_preprocessor=dict(
            type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=str(tokenizer_file))
        ),
    )


def write_config(data: Path, model: dict) -> Path:
    runtime = ROOT / "configs/_base_/default_runtime_classification.py"
    file = data.parent / "trial.py"
    text = CONFIG.format(runtime=str(runtime), model=model, data=str(data))
    file.write_text(text, encoding="utf-8")
    return file


def load(config: Path, work_dir: Path, **options: object) -> Config:
    return load_config(config, {"log_level": "WARNING", **options}, work_dir)


def test_a_linear_classifier_follows_its_data(data: Path, tmp_path: Path) -> None:
    config, work_dir = write_config(data, linear()), tmp_path / "run"
    train(load(config, work_dir))
    checkpoint = work_dir / "iter_40.pth"
    metrics = run_test(load(config, tmp_path / "test"), checkpoint)
    assert metrics == {"accuracy/top1": 100.0}
    file = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert file["classes"]["blue"] == {"top1": 100.0, "images": 4.0}
    (data / "loose.txt").write_text("no image")
    model = load_model(config, checkpoint)
    assert [found.name for found in model(data / "val")] == ["blue"] * 4 + ["red"] * 4
    with pytest.raises(InputError, match="there are 3 names and the head has 2 classes"):
        model.set_classes(list("abc"))
    content = torch.load(checkpoint, weights_only=False)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "nameless.pth")
    two = load(config, tmp_path / "x", **{"model.num_classes": 2})
    model = load_model(two, tmp_path / "nameless.pth")
    assert {found.name for found in model(data / "val")} == {"0", "1"}
    model.set_classes(["bleu", "rouge"])
    assert model(data / "val" / "red" / "0.png").name == "rouge"
    write_color(data / "val" / "green" / "1.png", "green", 0)
    with pytest.raises(InputError, match="folders that are no class of .*: green"):
        run_test(load(config, tmp_path / "test2"), checkpoint)


def test_a_classifier_by_names_is_asked_for_others(
    data: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    config, work_dir = write_config(data, by_names(tokenizer_file)), tmp_path / "run"
    train(load(config, work_dir))
    checkpoint = work_dir / "iter_40.pth"
    assert run_test(load(config, tmp_path / "test"), checkpoint) == {"accuracy/top1": 100.0}
    (data / "names.txt").write_text("green\nblue\nred\n")
    write_color(data / "val" / "green" / "1.png", "green", 0)
    others = {"test_dataloader.dataset.classes_file": "names.txt"}
    run_test(load(config, tmp_path / "test2", **others), checkpoint)
    table = json.loads((tmp_path / "test2" / "metrics.json").read_text())["classes"]
    assert list(table) == ["green", "blue", "red"] and table["red"]["images"] == 4.0
    (data / "val" / "red" / "broken.png").write_bytes(b"no image")
    cfg = load(config, tmp_path / "x")
    out = tmp_path / "out"
    (tmp_path / "templates.txt").write_text("a {} square")
    summary = infer_folder(
        *(cfg, checkpoint, data / "val", out),
        classes=["red", "blue"],
        templates=tmp_path / "templates.txt",
    )
    assert [failure["file_name"] for failure in summary["failed"]] == ["red/broken.png"]
    assert summary["classes"]["blue"] >= 4
    labels = json.loads((out / "labels.json").read_text())
    blue = [entry for entry in labels if entry["file_name"].startswith("blue")]
    assert [entry["classes"][0]["name"] for entry in blue] == ["blue"] * 4
    page = (out / "labels.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(labels) == 9


def test_all_that_is_wrong_with_the_data_is_named_first(data: Path, tmp_path: Path) -> None:
    (data / "train" / "green").mkdir()
    (data / "val" / "red" / "0.png").write_bytes(b"no image")
    cfg = load(write_config(data, linear()), tmp_path / "run")
    with pytest.raises(InputError, match=r"folder green has no image[\s\S]*red/0.png"):
        train(cfg)


def test_the_data_report_counts_the_images_of_classes(data: Path, tmp_path: Path) -> None:
    write_color(data / "train" / "red" / "more" / "9.png", "red", 9)
    cfg = load(write_config(data, linear()), tmp_path / "run")
    (report,) = report_config(cfg, ["train"], tmp_path / "report", decode=True, num_samples=3)
    assert report.classes == [dict(name="blue", images=4), dict(name="red", images=5)]
    assert (report.num_images, report.num_errors, len(report.pictures)) == (9, 0, 3)
    assert report.texts[0] == ["blue"]
    (data / "train" / "red" / "0.png").write_bytes(b"no image")
    (report,) = report_config(cfg, ["train"], tmp_path / "report", num_samples=3)
    assert "red/0.png" in report.errors[0]


@pytest.mark.slow
def test_two_processes_count_every_image_once(
    data: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    write_color(data / "val" / "red" / "9.png", "red", 3)  # nine: one process repeats an image
    options = {"train_cfg.max_iters": 1, "train_cfg.val_interval": 2}
    config, work_dir = write_config(data, by_names(tokenizer_file)), tmp_path / "run"
    train(load(config, work_dir, **options))
    checkpoint = work_dir / "iter_1.pth"
    run_test(load(config, tmp_path / "one"), checkpoint)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, str(ROOT / "tools" / "test.py"), str(config)]
    command += [str(checkpoint), "--work-dir", str(tmp_path / "two"), "--launcher", "pytorch"]
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two"))
    assert one["metrics"] == two["metrics"] and one["classes"] == two["classes"]
    assert sum(entry["images"] for entry in two["classes"].values()) == 9
