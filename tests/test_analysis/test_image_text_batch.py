"""The plan of models of images and texts and of a classifier, held against training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.analysis import plan_memory, simulation
from mmbeit3.analysis.advice import find_fitting
from mmbeit3.analysis.measuring import take_steps
from mmbeit3.analysis.memory_plan import Planner
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shape_crops import make_shape_crops
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.engine import optim_wrapper
from mmbeit3.text import train_tokenizer
from tests.all_parts import PRETRAINING, load_all_parts

WORDS = 6  # as many as every sentence has at least
NAMES = (
    PRETRAINING,
    "beit3-tiny-captioning_64_shapes",
    "beit3-tiny-nlvr2_64_shapes",
    "beit3-tiny-retrieval_64_shapes",
    "beit3-tiny-vqa_64_shapes",
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data" / "plain"
    make_shapes(folder, 64, 8, size=64, plain=True)
    train_tokenizer(tokenizer_texts(), folder / "captions.spm")
    return folder


def _load(name: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(plain.parents[1])  # the configs have data/plain
    cfg = load_all_parts() if name == PRETRAINING else load_config(name)
    cfg.model.data_preprocessor.max_length = WORDS
    if "image_tokenizer" in cfg.model:
        cfg.model.image_tokenizer.init_cfg = None
    return cfg


@pytest.mark.parametrize(
    ("name", "with_cp"), [*((name, False) for name in NAMES), (NAMES[0], True), (NAMES[-1], True)]
)
def test_takes_what_is_measured(
    name: str, with_cp: bool, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _load(name, plain, monkeypatch)
    cfg.optim_wrapper = dict(type="OptimWrapper", optimizer=cfg.optim_wrapper.optimizer)
    cfg.model.encoder.with_cp = with_cp
    cfg.train_dataloader.batch_size = 24  # so that activations outweigh the optimizer
    predicted = plan_memory(cfg, device="cpu").peak
    assert predicted == pytest.approx(take_steps(cfg), rel=0.03)


def test_a_classifier_takes_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shape_crops(tmp_path / "data" / "shapes_crops", 1, 1)
    monkeypatch.chdir(tmp_path)
    cfg = load_config("beit3-tiny-linear_64_shapes")
    cfg.optim_wrapper = dict(type="OptimWrapper", optimizer=cfg.optim_wrapper.optimizer)
    cfg.model.update(mixup=0.8, cutmix=1.0, label_smoothing=0.1)
    assert plan_memory(cfg, device="cpu").peak == pytest.approx(take_steps(cfg), rel=0.03)


def test_parts_of_a_pretraining_take_their_samples(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = _load(PRETRAINING, plain, monkeypatch)
    whole = sum(plan_memory(cfg).activations.values())
    dataset = cfg.train_dataloader.dataset
    dataset.samples = dict(images=2)
    assert sum(plan_memory(cfg).activations.values()) > 1.2 * whole
    dataset.samples = None
    del dataset.datasets["images"], dataset.datasets["pairs"]
    cfg.model.image_tokenizer = None
    texts = plan_memory(cfg).activations
    assert 0 < sum(texts.values()) < 0.5 * whole
    assert not any(part.startswith("encoder.vision") for part in texts)


def test_checkpointing_of_an_encoder_is_advised(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = Planner(_load(NAMES[-1], plain, monkeypatch))
    options = [trial.options for trial in find_fitting(planner, 0)]
    assert options[2]["model.encoder.with_cp"] is True


def test_mixed_precision_on_the_cpu_takes_what_is_measured(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (simulation, optim_wrapper):
        monkeypatch.setattr(module, "bfloat16_obstacle", lambda: None)
    cfg = _load("beit3-tiny-vqa_64_shapes", plain, monkeypatch)
    assert "AmpOptimWrapper" in cfg.optim_wrapper.type
    predicted = plan_memory(cfg, device="cpu").peak
    assert predicted == pytest.approx(take_steps(cfg), rel=0.03)
