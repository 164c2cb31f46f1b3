"""An image tokenizer and a pretraining by the tools: trained and resumed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.apis.data_report import report_config
from mmbeit3.apis.testing import test as evaluate
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.evaluation.masked_token_metric import PARTS
from mmbeit3.models import BEiT3
from mmbeit3.registry import HOOKS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError
from tests import small_pretraining  # noqa: F401  it registers a tokenizer
from tests.small_tokenizer import sentences

ROOT = Path(__file__).parents[2]
EMA = "ema_state_dict"
SMALL = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.fixture
def folder(tmp_path: Path, tokenizer_file: Path) -> Path:
    """Data as make-shapes writes them: six images, three with sentences, and lines of text."""
    (tmp_path / "annotations").mkdir()
    draw = np.random.default_rng(0)
    for split, size, number in (("train", 40, 6), ("val", 32, 5)):
        (tmp_path / split).mkdir()
        for index in range(number):
            image = cv2.resize(draw.integers(0, 256, (4, 4, 3), np.uint8), (size, size))
            cv2.imwrite(str(tmp_path / split / f"{index}.png"), image)
        captions = {
            "images": [dict(id=i, file_name=f"{i}.png", width=size, height=size) for i in range(3)],
            "annotations": [dict(id=i, image_id=i, caption=sentences()[i]) for i in range(3)],
        }
        (tmp_path / f"annotations/captions_{split}.json").write_text(json.dumps(captions))
    (tmp_path / "annotations/captions_train.txt").write_text("\n".join(sentences()[10:17]))
    (tmp_path / "captions.spm").write_bytes(tokenizer_file.read_bytes())
    return tmp_path


def load(name: str, folder: Path, work_dir: Path, max_iters: int, **options: Any) -> Config:
    """A config of the trial, as small as the data, which it has in this folder."""
    text = (ROOT / "configs/_base_/datasets/shapes_pretraining.py").read_text(encoding="utf-8")
    text = text.replace('"data/shapes_pretraining/"', repr(f"{folder}/"))
    pairs = 'LoadImageFromFile", _scope_="mmbeit3"),\n    dict(type="PackImageText"),  # no crop'
    assert pairs in text
    text = text.replace(pairs, pairs.replace("\n", '\n    dict(type="Resize", scale=(32, 32)),\n'))
    (folder / "data.py").write_text(text.replace("img_size = 128", "img_size = 32"))
    config = (ROOT / "configs/beit3_pretraining" / f"{name}.py").read_text(encoding="utf-8")
    config = config.replace("../_base_/datasets/shapes_pretraining.py", str(folder / "data.py"))
    config = config.replace("../_base_", str(ROOT / "configs/_base_"))
    config = config.replace('arch="tiny"', f"arch={SMALL}").replace("img_size=128", "img_size=32")
    config = config.replace(
        "vocab_size=258", f"vocab_size={Tokenizer(folder / 'captions.spm').vocab_size}"
    )
    (folder / f"{name}.py").write_text(config)
    options |= {"train_cfg.max_iters": max_iters, "default_hooks.checkpoint.interval": 2}
    options |= {"train_dataloader.batch_size": 3, "log_level": "WARNING"}
    return load_config(folder / f"{name}.py", options, work_dir)


def same(first: Path, second: Path) -> bool:
    one, two = (
        content["state_dict"] | {f"average {n}": v for n, v in content.get(EMA, {}).items()}
        for content in map(read_checkpoint, (first, second))
    )
    return one.keys() == two.keys() and all(torch.equal(two[n], v) for n, v in one.items())


def test_a_tokenizer_and_a_pretraining_resume_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    start: dict[str, Any] = {}
    for name in ("vqkd-tiny_128_shapes", "beit3-tiny-pretraining_128_shapes"):
        whole, parted = tmp_path / f"{name}_whole", tmp_path / f"{name}_parted"
        train(load(name, folder, whole, 4, **start))
        train(load(name, folder, parted, 2, **start))
        train(load(name, folder, parted, 4, **start), resume=True)
        assert same(whole / "iter_4.pth", parted / "iter_4.pth")
        start = {"model.image_tokenizer.init_cfg.checkpoint": str(whole / "iter_4.pth")}
    logs = next(parted.glob("*/vis_data/scalars.json")).read_text().splitlines()
    assert not logs or "loss" in " ".join(json.loads(logs[0]))
    tower = BEiT3(
        SMALL,
        32,
        8,
        window_size=2,
        init_cfg=dict(type="Pretrained", checkpoint=str(whole / "iter_4.pth")),
    )
    tower.init_weights()
    state = read_checkpoint(whole / "iter_4.pth")["state_dict"]
    assert torch.equal(
        tower.layers[1].ffn.fc2.weight, state["encoder.vision.layers.1.ffn.fc2.weight"]
    )


def test_shards_and_scenes_without_end_resume_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    name = "beit3-tiny-pretraining_128_shapes"
    with tarfile.open(folder / "00.tar", "w") as shard:
        for file in (folder / "train").iterdir():
            shard.add(file, file.name)

    def settings(work_dir: Path, max_iters: int, workers: int) -> Config:
        cfg = load(name, folder, work_dir, max_iters)
        parts = cfg.train_dataloader.dataset.datasets
        images = dict(type="mmbeit3.ShardsDataset", shards="{00..00}.tar", data_root=str(folder))
        drawn = dict(type="mmbeit3.ShapesDataset", captions=True, size=64)
        parts.images = dict(images, pipeline=parts.images.pipeline)
        parts.pairs = dict(drawn, seed=1, pipeline=parts.pairs.pipeline)
        parts.texts = dict(drawn, seed=2, pipeline=[dict(type="PackImageText")])
        cfg.train_dataloader.num_workers = workers
        cfg.model.image_tokenizer = dict(type="mmbeit3.BrightnessCodes", num_codes=256)
        for key in ("val_dataloader", "val_evaluator", "val_cfg"):
            cfg[key] = None
        return cfg

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(settings(whole, 4, 0))
    train(settings(parted, 2, 2))
    train(settings(parted, 4, 0), resume=True)
    assert same(whole / "iter_4.pth", parted / "iter_4.pth")


def test_held_out_samples_are_counted_alike_in_training_and_test(
    folder: Path, tmp_path: Path
) -> None:
    names = ("vqkd-tiny_128_shapes", "beit3-tiny-pretraining_128_shapes")
    book, model = (tmp_path / name for name in names)
    more = {"train_cfg.val_interval": 2, "val_dataloader.batch_size": 3}
    train(load(names[0], folder, book, 2, **more))
    start = {"model.image_tokenizer.init_cfg.checkpoint": str(book / "iter_2.pth")}
    train(load(names[1], folder, model, 2, **more, **start))
    for name, work_dir, options in ((names[0], book, {}), (names[1], model, start)):
        lines = next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()
        trained = {k: v for line in lines for k, v in json.loads(line).items() if "/" in k}
        # In other batches, with parts side by side in one.
        cfg = load(
            name, folder, tmp_path / "test", 2, **options, **{"test_dataloader.batch_size": 4}
        )
        found = evaluate(cfg, work_dir / "iter_2.pth")
        assert found == pytest.approx({k: v for k, v in trained.items() if "time" not in k})
        kept = json.loads((tmp_path / "test" / "metrics.json").read_text())
        assert kept["metrics"] == found
    images = [part for part in PARTS if part.endswith("image")]
    assert set(found) == {
        *(f"masked/{what}_{part}" for what in ("acc", "loss") for part in PARTS),
        *(f"masked/{what}_{part}" for what in ("codes_used", "guess") for part in images),
    }
    used = 256 * found["masked/codes_used_image"]
    assert 1 <= used <= 5 * 6 and used == pytest.approx(round(used))  # 6 of 16 patches are masked
    other = tmp_path / "other"
    train(load(names[0], folder, other, 2, **{"randomness.seed": 5}))
    start = {"model.image_tokenizer.init_cfg.checkpoint": str(other / "iter_2.pth")}
    match = "model.image_tokenizer has other weights .* was begun with .*init_cfg.checkpoint"
    with pytest.raises(InputError, match=f"cannot be resumed with this config:\n  {match}"):
        train(load(names[1], folder, model, 4, **start), resume=True)
    with pytest.raises(InputError, match=f"cannot be tested with this config: {match}"):
        evaluate(load(names[1], folder, model, 2, **start), model / "iter_2.pth")
    start = {"model.image_tokenizer.init_cfg.checkpoint": str(book / "moved.pth")}
    with pytest.raises(InputError, match="moved.pth"):
        train(load(names[1], folder, model, 4, **start), resume=True)
    (book / "iter_2.pth").rename(book / "moved.pth")  # the same one under another name
    train(load(names[1], folder, model, 4, **start), resume=True)


@HOOKS.register_module(name="KillingHook", force=True)
class KillingHook(Hook):
    """Ends the process as kill -9 does, in the middle of the fourth iteration."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(name: str, folder: Path, work_dir: Path, start: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    cfg = load(name, folder, work_dir, 6, **start)
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="KillingHook")]
    train(cfg)


@pytest.mark.slow
def test_killed_trainings_end_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start: dict[str, Any] = {}
    for name in ("vqkd-tiny_128_shapes", "beit3-tiny-pretraining_128_shapes"):
        whole, killed = tmp_path / f"{name}_whole", tmp_path / f"{name}_killed"
        average = {"custom_hooks": [dict(type="mmbeit3.EMAHook", momentum=0.1)]}
        train(load(name, folder, whole, 6, **start, **average))
        process = multiprocessing.get_context("spawn").Process(
            target=train_until_killed, args=(name, folder, killed, start | average)
        )
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        assert (killed / "iter_2.pth").is_file() and not (killed / "iter_4.pth").exists()
        train(load(name, folder, killed, 6, **start, **average), resume=True)
        assert same(whole / "iter_6.pth", killed / "iter_6.pth")
        start = {"model.image_tokenizer.init_cfg.checkpoint": str(whole / "iter_6.pth")}
    torch.set_num_threads(threads)


def test_data_that_cannot_be_used_are_named_before_the_first_step(
    folder: Path, tmp_path: Path
) -> None:
    name = "beit3-tiny-pretraining_128_shapes"
    tokenizer = load("vqkd-tiny_128_shapes", folder, tmp_path / "vqkd", 2)
    train(tokenizer)
    start = {"model.image_tokenizer.init_cfg.checkpoint": str(tmp_path / "vqkd" / "iter_2.pth")}
    (folder / "train" / "9.png").write_bytes(b"none")
    (folder / "annotations/captions_train.txt").write_text("")
    place = "train_dataloader.dataset.datasets"
    with pytest.raises(InputError) as caught:
        train(load(name, folder, tmp_path / "run", 2, **start))
    assert f"{place}.images: 1 of the 7 images" in str(caught.value)
    assert f"{place}.texts: " in str(caught.value) and "captions_train.txt has no text" in str(
        caught.value
    )


def test_check_data_counts_all_parts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cfg = load("beit3-tiny-pretraining_128_shapes", folder, tmp_path / "run", 2)
    reports = report_config(cfg, ("train",), tmp_path / "report", num_samples=2)
    counts = {r.place.rpartition(".")[2]: (r.num_images, r.num_texts) for r in reports}
    assert counts == dict(images=(6, 0), texts=(0, 7), pairs=(3, 3))
    assert not any(report.num_errors for report in reports)
    assert [len(report.pictures) for report in reports] == [2, 0, 2]
    names = {r.place.rpartition(".")[2]: r.text_name for r in reports}
    assert names == dict(images="captions", texts="texts", pairs="captions")
    printed = "".join(capsys.readouterr().out.split())
    page = " ".join((tmp_path / "report" / "samples.html").read_text().split())
    for counts in ("6 images", "7 texts", "3 images, 3 captions"):
        assert f": {counts}, 0 errors" in page
        assert ":" + counts.replace(" ", "") in printed
