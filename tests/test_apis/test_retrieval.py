"""A dual encoder by the tools: trained, resumed and tested as a config says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import load_task, read_checkpoint, save_checkpoint, to_official
from mmbeit3.config.loading import load_config
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError

COLORS = dict(red=(0, 0, 255), green=(0, 255, 0), blue=(255, 0, 0))
CONFIG = """
_base_ = {runtime!r}
model = dict(
    type="mmbeit3.BEiT3Retrieval",
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32, patch_size=8, vocab_size={words}, max_tokens=20),
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file={tokenizer!r}), max_length=20))
pipeline = [
    dict(type="mmbeit3.LoadImageFromFile"),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="mmbeit3.PackImageText")]
dataset = dict(
    type="mmbeit3.CocoCaptionsDataset", data_root={data!r}, ann_file="captions.json",
    data_prefix=dict(img="images/"), pipeline=pipeline)
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dataset)
val_dataloader = dict(
    batch_size=2, num_workers=0, drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False), dataset=dict(dataset, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.RetrievalMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=2, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9, flat_decay_mult=0.0))
param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=2)]
randomness = dict(seed=0)
"""


@pytest.fixture
def config(tmp_path: Path, tokenizer_file: Path) -> Path:
    """Four images of one color each, with two captions, and a config for them."""
    (tmp_path / "images").mkdir()
    data = {"images": [], "annotations": []}
    for index, color in enumerate([*COLORS, "red"]):
        image = np.full((40, 50, 3), COLORS[color], np.uint8)
        image[: 10 * index] //= 2
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
        data["images"].append(dict(id=index, file_name=f"{index}.png", width=50, height=40))
        for text in (f"a {color} square", f"large {color} and {index} in the circle"):
            number = len(data["annotations"])
            data["annotations"].append(dict(id=number, image_id=index, caption=text))
    (tmp_path / "captions.json").write_text(json.dumps(data))
    runtime = Path(__file__).parents[2] / "configs/_base_/default_runtime_retrieval.py"
    file = tmp_path / "trial.py"
    file.write_text(
        CONFIG.format(
            runtime=str(runtime),
            words=Tokenizer(tokenizer_file).vocab_size,
            tokenizer=str(tokenizer_file),
            data=str(tmp_path),
        ),
        encoding="utf-8",
    )
    return file


def load(config: Path, work_dir: Path, **options: object) -> Config:
    return load_config(config, {"log_level": "WARNING", **options}, work_dir)


def test_a_dual_encoder_trains_resumes_and_is_tested(config: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    train(load(config, work_dir))
    first = work_dir / "iter_2.pth"
    best = list(work_dir.glob("best_retrieval_mean_recall_*.pth"))
    assert first.is_file() and len(best) == 1
    more = {"train_cfg.max_iters": 4, "train_cfg.val_interval": 4}
    train(load(config, work_dir, **more), resume=True)
    last = work_dir / "iter_4.pth"
    metrics = run_test(load(config, tmp_path / "test"), last)
    names = {f"retrieval/{way}@{k}" for way in ("TR", "IR") for k in (1, 5, 10)}
    assert metrics.keys() == names | {"retrieval/mean_recall"}
    assert metrics["retrieval/TR@10"] == 100
    # the same numbers from a file in the layout of the official ones
    official = tmp_path / "official_itc.pth"
    state = read_checkpoint(last)["state_dict"]
    save_checkpoint({"model": to_official(state)}, official)
    assert run_test(load(config, tmp_path / "test2"), official) == metrics
    # and it starts another training, as a whole or the encoder alone
    for key in ("model.init_cfg", "model.encoder.init_cfg"):
        start = {f"{key}.type": "Pretrained", f"{key}.checkpoint": str(official)}
        train(load(config, tmp_path / key, **start, **{"train_cfg.max_iters": 1}))
    pytest.importorskip("plotly")
    run_test(load(config, tmp_path / "test4"), last, report=tmp_path / "report")
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 100 * content["mean_recall"] == pytest.approx(100 * metrics["retrieval/mean_recall"])
    for way, found in content["ways"].items():
        assert all(found["recall"][str(k)] == metrics[f"retrieval/{way}@{k}"] for k in (1, 5, 10))
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(f'"{image}":["' in page.partition('"pictures":{')[2] for image in range(4))
    model = MODELS.build(load(config, tmp_path / "x").model)
    load_task(model, official)
    with pytest.raises(InputError, match="expected the suffix .json"):
        run_test(load(config, tmp_path / "test3"), last, out=tmp_path / "out.pkl")


@pytest.mark.parametrize("entry", ["train", "test"])
def test_an_absent_tokenizer_is_named_first(config: Path, tmp_path: Path, entry: str) -> None:
    absent = {"model.data_preprocessor.tokenizer.file": "none.spm"}
    cfg = load(config, tmp_path / "run", **absent)
    with pytest.raises(InputError, match=r"no tokenizer at none.spm: .*https://.*SHA-256"):
        train(cfg) if entry == "train" else run_test(cfg, "none.pth")


def test_errors_of_captions_are_named_before_the_model_is_built(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "captions.json"
    data = json.loads(file.read_text())
    data["annotations"][3]["caption"] = " "
    file.write_text(json.dumps(data))
    monkeypatch.setattr(MODELS, "build", lambda *_, **__: pytest.fail("the model was built"))
    with pytest.raises(InputError, match=r"train_dataloader.dataset: .*captions.json"):
        train(load(config, tmp_path / "run"))


def test_words_of_another_vocabulary_are_refused(config: Path, tmp_path: Path) -> None:
    cfg = load(config, tmp_path / "run", **{"model.encoder.vocab_size": 64010})
    with pytest.raises(InputError, match="ids and the model's embedding 64010 rows"):
        train(cfg)
