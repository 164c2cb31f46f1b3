from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, init_default_scope

from mmbeit3.apis.training import train
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.engine import ValidationLossHook, build_runner, validation_loss
from mmbeit3.engine.randomness import Stream, seed_generators
from mmbeit3.engine.validation_loss import loss_pipeline
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

from .toy import config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = {
    "detector": CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py",
    "segmentor": CONFIGS / "beit3_mask2former" / "mask2former_beit3-tiny_shapes.py",
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=3, size=96)


def cfg_of(kind: str, shapes: Path, work_dir: Path, **options: Any) -> Config:
    options = {"log_level": "WARNING", "train_dataloader.batch_size": 2, **options}
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        options[f"{loader}.dataset.data_root"] = str(shapes)
    if kind == "detector":
        for evaluator in ("val_evaluator", "test_evaluator"):
            options[f"{evaluator}.ann_file"] = str(shapes / "annotations" / "val.json")
    return load_config(TINY[kind], options, work_dir)


def states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def runner_of(cfg: Config) -> SimpleNamespace:
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return SimpleNamespace(model=model.eval(), cfg=cfg, seed=5, val_loop=object())


@pytest.mark.parametrize("kind", TINY)
def test_it_is_the_mean_of_the_losses_of_the_images_on_any_number_of_processes(
    kind: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = cfg_of(kind, shapes, tmp_path)
    runner, hook = runner_of(cfg), ValidationLossHook()
    hook.before_train(runner)
    before = [value.clone() for value in runner.model.state_dict().values()]
    drawn, metrics = states(), {"mIoU": 0.5}
    hook.after_val_epoch(runner, metrics)
    assert states() == drawn
    assert all(
        torch.equal(a, b) for a, b in zip(before, runner.model.state_dict().values(), strict=True)
    )
    assert not any(module.training for module in runner.model.modules())

    # The oracle: what the training does with an image that is not flipped, resized to 128.
    steps = [s for s in cfg.train_dataloader.dataset.pipeline if "Random" not in s["type"]]
    resize = dict(type="Resize", scale=(128, 128), keep_ratio=True)
    pipeline = Compose([*steps[:2], resize, *steps[2:]])
    dataset, totals = DATASETS.build(cfg.val_dataloader.dataset), []
    for index in range(3):
        data = runner.model.data_preprocessor(
            pseudo_collate([pipeline(dataset.get_data_info(index))]), True
        )
        seed_generators(5, Stream.VALIDATION, index)
        with torch.no_grad():
            losses = runner.model(**data, mode="loss")
        totals.append(float(runner.model.parse_losses(losses)[0]))
    assert metrics["val/loss"] == pytest.approx(np.mean(totals), rel=1e-5)
    terms = [v for k, v in metrics.items() if k.startswith("val/") and k != "val/loss"]
    assert sum(terms) == pytest.approx(metrics["val/loss"], rel=1e-5)

    parts = []
    monkeypatch.setattr(validation_loss, "mean_over_ranks", lambda sums: sums)
    for rank in range(2):
        monkeypatch.setattr(validation_loss, "get_dist_info", lambda rank=rank: (rank, 2))
        metrics_of_rank: dict[str, float] = {}
        hook.after_val_epoch(runner, metrics_of_rank)
        parts.append(float(metrics_of_rank["val/loss"]))
    assert np.mean(parts) == pytest.approx(metrics["val/loss"], rel=1e-5)


def test_some_images_are_evenly_spaced(shapes: Path, tmp_path: Path) -> None:
    runner, hook = runner_of(cfg_of("detector", shapes, tmp_path)), ValidationLossHook(2)
    hook.before_train(runner)
    seen = []
    dataset = hook._dataset

    class Noting:
        def __len__(self) -> int:
            return len(dataset)

        def __getitem__(self, index: int) -> dict:
            seen.append(index)
            return dataset[index]

    hook._dataset = Noting()
    hook.after_val_epoch(runner, {})
    assert seen == [0, 1]


def test_annotations_are_loaded_before_images_are_resized() -> None:
    load, boxes, resize, pack = (
        dict(type=f"{name}")
        for name in ("LoadImageFromFile", "mmdet.LoadAnnotations", "Resize", "P")
    )
    train = dict(type="RepeatDataset", dataset=dict(pipeline=[load, boxes | {"a": 1}, pack]))
    found = loss_pipeline(train, [load, resize, boxes, pack])
    assert found == [load, boxes | {"a": 1}, resize, pack]
    mixed = dict(pipeline=[pack], dataset=dict(datasets=[dict(pipeline=[load, boxes])]))
    assert loss_pipeline(mixed, [load, pack]) == [load, boxes, pack]
    for wrong in (dict(pipeline=[load, pack]), {}):
        with pytest.raises(InputError, match="that loads annotations"):
            loss_pipeline(wrong, [load, pack])


def test_models_and_configs_that_it_is_not_for(tmp_path: Path, shapes: Path) -> None:
    hooks = [{"type": "mmbeit3.ValidationLossHook"}]
    with pytest.raises(InputError, match="for detectors and segmentors, and the model is a Net"):
        build_runner(config(tmp_path, custom_hooks=hooks)).train()
    with pytest.raises(InputError, match="num_images is 0"):
        ValidationLossHook(0)
    runner = runner_of(cfg_of("detector", shapes, tmp_path))
    runner.val_loop = None
    with pytest.raises(InputError, match="needs a validation"):
        ValidationLossHook().before_train(runner)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TINY)
def test_training_is_the_same_with_it(kind: str, shapes: Path, tmp_path: Path) -> None:
    hook = dict(type="mmbeit3.ValidationLossHook")
    weights = []
    for name, hooks in {"with": [hook], "without": []}.items():
        options = {
            "train_cfg.max_iters": 3,
            "train_cfg.val_interval": 1,
            "default_hooks.checkpoint.interval": 3,
            "custom_hooks": hooks,
        }
        train(cfg_of(kind, shapes, tmp_path / name, **options))
        weights.append(torch.load(tmp_path / name / "iter_3.pth", weights_only=False)["state_dict"])
        (scalars,) = (tmp_path / name).glob("*/vis_data/scalars.json")
        assert scalars.read_text().count('"val/loss":') == (3 if hooks else 0)
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
