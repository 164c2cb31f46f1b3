"""Simulated learning rates, against those that a real training has."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from mmbeit3.apis.lr_plot import as_json, report
from mmbeit3.engine.lr_schedule import simulate
from mmbeit3.models import BEiT3
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8)
PLACES = ["patch embedding, positions", "layer 0", "layer 1", "head"]
WARM_UP = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=3)


@MODELS.register_module(force=True)
class ScheduledModel(BaseModel):
    """A backbone and a head, with a loss that means nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BEiT3(ARCH, img_size=16, window_size=0)
        self.head = torch.nn.Linear(8, 1)

    def forward(self, inputs: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        features = self.backbone(inputs)[0].flatten(2).mean(-1)
        return {"loss": self.head(features).mean()}


@DATASETS.register_module(force=True)
class SixImages(Dataset):
    """Six images, thus three batches of two."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": torch.zeros(3, 16, 16)}


def config(train_cfg: dict, *schedulers: dict, **paramwise: object) -> Config:
    wrapper = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.1),
        constructor="mmbeit3.LayerDecayConstructor",
        paramwise_cfg=dict(layer_decay_rate=0.5) | paramwise,
    )
    loader = dict(
        batch_size=2,
        dataset=dict(type="SixImages"),
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="default_collate"),
    )
    return Config(
        dict(
            model=dict(type="ScheduledModel"),
            train_cfg=train_cfg,
            train_dataloader=loader,
            optim_wrapper=wrapper,
            param_scheduler=list(schedulers),
            default_scope="mmengine",
        )
    )


class Recorder(Hook):
    """Notes the learning rate of every group before each iteration."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def before_train_iter(self, runner: Runner, **_: object) -> None:
        self.rates.append([g["lr"] for g in runner.optim_wrapper.optimizer.param_groups])


def of_training(cfg: Config, tmp_path: Path) -> np.ndarray:
    """(iterations, groups) learning rates of mmengine's own training."""
    runner = Runner.from_cfg(
        Config(cfg.to_dict() | {"work_dir": str(tmp_path), "experiment_name": tmp_path.name})
    )
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return np.array(recorder.rates)


ITERATIONS = dict(type="IterBasedTrainLoop", max_iters=9)
EPOCHS = dict(by_epoch=True, max_epochs=3)
CASES = {
    "steps": (ITERATIONS, WARM_UP, dict(type="MultiStepLR", by_epoch=False, milestones=[5, 7])),
    "poly, to zero": (ITERATIONS, WARM_UP, dict(type="PolyLR", by_epoch=False, begin=3, eta_min=0)),
    "epochs": (EPOCHS, WARM_UP, dict(type="MultiStepLR", milestones=[1, 2])),
    "epochs, each iteration": (
        EPOCHS,
        dict(type="CosineAnnealingLR", T_max=3, eta_min=1e-3, convert_to_iter_based=True),
    ),
    "an absolute minimum": (
        ITERATIONS,
        dict(type="CosineAnnealingLR", by_epoch=False, eta_min=4e-3),
    ),
    "none": (ITERATIONS,),
}


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_a_training(name: str, tmp_path: Path) -> None:
    cfg = config(*CASES[name])
    curves = simulate(cfg)
    assert [curve.name for curve in curves] == PLACES
    expected = of_training(cfg, tmp_path)
    assert len(expected) == 9 and (name == "none") == (np.ptp(expected, axis=0) == 0).all()
    np.testing.assert_array_equal(np.stack([curve.lr for curve in curves], 1), expected)


def test_weight_decay_does_not_divide_curves_and_custom_rates_do() -> None:
    keys = {"layers.1.ffn": dict(lr_mult=3.0)}
    curves = simulate(config(ITERATIONS, flat_decay_mult=0.0, custom_keys=keys))
    model = ScheduledModel()
    assert [curve.name for curve in curves] == [
        *PLACES[:3],
        "layer 1 ('layers.1.ffn')",
        *PLACES[3:],
    ]
    assert sum(curve.parameters for curve in curves) == sum(p.numel() for p in model.parameters())
    assert curves[3].lr[0] == pytest.approx(0.01 * 0.5 * 3)


def test_other_constructors_have_curves_too() -> None:
    cfg = config(ITERATIONS)
    cfg.optim_wrapper.pop("constructor")
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={"head": dict(lr_mult=10)})
    assert {curve.name: curve.lr[0] for curve in simulate(cfg)} == {"lr 0.01": 0.01, "lr 0.1": 0.1}


def test_epochs_need_their_length() -> None:
    cfg = config(EPOCHS)
    assert len(simulate(cfg, epoch_iters=7)[0].lr) == 21
    cfg.train_dataloader.dataset = dict(
        type="mmbeit3.CocoDataset", ann_file="absent.json", data_prefix=dict(img=""), pipeline=[]
    )
    with pytest.raises(InputError, match="the training set, which cannot be loaded: .*absent.json"):
        simulate(cfg)


def test_configs_without_training_are_refused() -> None:
    with pytest.raises(InputError, match="it has no train_cfg, optim_wrapper"):
        simulate(Config(dict(model=dict(type="ScheduledModel"))))
    with pytest.raises(InputError, match="train_cfg says no max_iters"):
        simulate(config(dict(type="IterBasedTrainLoop")))


def test_picture_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = dict(type="MultiStepLR", by_epoch=False, milestones=[600])
    cfg = config(dict(type="IterBasedTrainLoop", max_iters=1000), WARM_UP, steps)
    report(cfg, tmp_path / "sub" / "lr.png")
    assert matplotlib.image.imread(tmp_path / "sub" / "lr.png").shape[1] > 1000
    numbers = json.loads((tmp_path / "sub" / "lr.json").read_text())
    assert numbers["num_iterations"] == 1000
    assert {1, 2, 3, 600, 601, 1000} <= set(numbers["iterations"])
    head = dict(zip(numbers["iterations"], numbers["groups"][-1]["lr"], strict=True))
    rates = [head[iteration] for iteration in (1, 600, 601)]
    assert rates == pytest.approx([1e-3, 1e-2, 1e-3])
    assert f"results are in {tmp_path / 'sub' / 'lr.png'}" in capsys.readouterr().out
    with pytest.raises(InputError, match="expected a name that ends in .png"):
        report(cfg, tmp_path / "lr")


def test_short_trainings_have_numbers_too() -> None:
    curves = simulate(config(dict(type="IterBasedTrainLoop", max_iters=1)))
    assert as_json(curves, "a.py")["iterations"] == [1]
