"""Data of captions by the tools: one table to train and validate on, images for the servers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3.apis.data_report import report_config
from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.evaluation import caption_scores
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError

CONFIG = """
_base_ = {runtime!r}
model = dict(
    type="mmbeit3.BEiT3Captioning",
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32, patch_size=8, vocab_size={words}, max_tokens=20),
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file={tokenizer!r}), max_length=20),
    generation=dict(max_length=6))
pipeline = [
    dict(type="mmbeit3.LoadImageFromFile"),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="mmbeit3.PackImageText")]
dataset = dict(
    type="mmbeit3.ImageTextTableDataset", data_root={data!r}, ann_file="captions.csv",
    val_images=3, pipeline=pipeline)
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dataset)
val_dataloader = dict(
    batch_size=2, num_workers=0, drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False), dataset=dict(dataset, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CaptionMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=2, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=2)]
randomness = dict(seed=0)
"""
TEST_SET = """
_base_ = "trial.py"
images = dict(
    _delete_=True, type="mmbeit3.CocoCaptionsDataset", data_root=_base_.dataset.data_root,
    ann_file={file!r}, test_mode=True, pipeline=_base_.pipeline, require_captions={captions})
test_dataloader = dict(dataset=images)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """Eight images with two captions each in one table, and a trained model."""
    folder = tmp_path_factory.mktemp("captions")
    draw = np.random.default_rng(0)
    rows = ["image,text"]
    for index in range(8):
        cv2.imwrite(str(folder / f"{index}.png"), draw.integers(0, 256, (40, 50, 3), np.uint8))
        rows += [f"{index}.png,a red square", f"{index}.png,large circle {index}"]
    (folder / "captions.csv").write_text("\n".join(rows))
    runtime = Path(__file__).parents[2] / "configs/_base_/default_runtime_captioning.py"
    (folder / "trial.py").write_text(
        CONFIG.format(
            runtime=str(runtime),
            words=Tokenizer(tokenizer_file).vocab_size,
            tokenizer=str(tokenizer_file),
            data=str(folder),
        ),
        encoding="utf-8",
    )
    train(load(folder / "trial.py", folder / "run"))
    return folder


def load(config: Path, work_dir: Path) -> Config:
    return load_config(config, {"log_level": "WARNING"}, work_dir)


def test_one_table_trains_and_validates(folder: Path, tmp_path: Path) -> None:
    assert len(list((folder / "run").glob("best_caption_CIDEr_iter_*.pth"))) == 1
    out = tmp_path / "results.json"
    metrics = run_test(load(folder / "trial.py", tmp_path), folder / "run/iter_2.pth", out=out)
    results = json.loads(out.read_text())
    assert len(results) == 3  # numbered as in the whole table, so that it is the references
    scores = caption_scores(folder / "captions.csv", out, answered_only=True)
    assert metrics == {
        f"caption/{name}": scores[name] for name in scores if "caption/" + name in metrics
    }
    assert "caption/CIDEr" in metrics


@pytest.mark.parametrize("suffix", [{}, {"annotations": []}])
def test_images_without_captions_are_written_for_a_server(
    folder: Path, tmp_path: Path, suffix: dict
) -> None:
    images = [dict(id=10 - i, file_name=f"{i}.png", domain="in-domain") for i in range(5)]
    (folder / "info.json").write_text(json.dumps({"images": images} | suffix))
    config = folder / "nocaps_test.py"
    config.write_text(TEST_SET.format(file="info.json", captions=False))
    out = tmp_path / "nocaps.json"
    assert run_test(load(config, tmp_path), folder / "run/iter_2.pth", out=out) == {}
    results = json.loads(out.read_text())
    assert [entry["image_id"] for entry in results] == [10, 9, 8, 7, 6]
    assert all(entry["caption"] for entry in results)
    with pytest.raises(InputError, match="no caption to compare with: write .*--out"):
        run_test(load(config, tmp_path), folder / "run/iter_2.pth")
    config.write_text(TEST_SET.format(file="info.json", captions=True))
    with pytest.raises(InputError, match="annotations"):
        run_test(load(config, tmp_path), folder / "run/iter_2.pth", out=out)


def test_the_data_are_checked_and_shown(folder: Path, tmp_path: Path) -> None:
    report_config(load(folder / "trial.py", tmp_path), ("train", "val"), tmp_path / "report")
    train_set, val_set = json.loads((tmp_path / "report/report.json").read_text())
    assert (train_set["num_images"], train_set["num_texts"]) == (5, 10)
    assert (val_set["num_images"], val_set["num_texts"]) == (3, 6)
    images = [dict(id=i, file_name=f"{i}.png") for i in range(4)]
    (folder / "info.json").write_text(json.dumps({"images": images}))
    config = folder / "nocaps_test.py"
    config.write_text(TEST_SET.format(file="info.json", captions=False))
    report_config(load(config, tmp_path), ("test",), tmp_path / "images")
    (found,) = json.loads((tmp_path / "images/report.json").read_text())
    assert (found["num_images"], found["num_texts"], found["num_errors"]) == (4, 0, 0)
    assert found["texts"] == [[], [], [], []]
