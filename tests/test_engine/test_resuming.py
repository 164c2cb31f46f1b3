"""Resuming with another config: what is taken, what is refused, and what the log says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import build_runner
from mmbeit3.utils import InputError

from .toy import config

LAYER_DECAY = {
    "optim_wrapper__constructor": "mmbeit3.LayerDecayConstructor",
    "optim_wrapper__optimizer__weight_decay": 0.1,
    "optim_wrapper__paramwise_cfg": {"layer_decay_rate": 0.5, "flat_decay_mult": 0.0},
}
WARMUP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 3}


def build(work_dir: Path, **changes: Any) -> Any:
    changes = {"randomness__seed": 0, "train_cfg__val_interval": 10**6, **changes}
    return build_runner(config(work_dir, **changes))


def train(work_dir: Path, **changes: Any) -> Any:
    runner = build(work_dir, **changes)
    runner.train()
    return runner


def changes_in(runner: Any) -> list[str]:
    """The lines of the log that say what a resumed run does otherwise."""
    mark = "resuming with a change: "
    lines = Path(runner.logger.log_file).read_text().splitlines()
    return [line.partition(mark)[2] for line in lines if mark in line]


def rates(runner: Any) -> list[float]:
    return [float(each) for each in runner.message_hub.log_scalars["train/max_lr"].data[0]]


def schedule(**options: Any) -> list[dict[str, Any]]:
    return [WARMUP, {"by_epoch": False, **options}]


def without_settings(work_dir: Path, iters: int) -> None:
    """Make a checkpoint one of before settings were kept with it."""
    file = work_dir / f"iter_{iters}.pth"
    checkpoint = read_checkpoint(file)
    del checkpoint["meta"]["settings"]
    replace(file, checkpoint)


def replace(file: Path, checkpoint: dict[str, Any]) -> None:
    file.unlink()  # its tensors may be mapped into memory
    torch.save(checkpoint, file)


SCHEDULES = {
    "cosine": (schedule(type="CosineAnnealingLR"),) * 2,
    "cosine, other end": (
        schedule(type="CosineAnnealingLR", begin=3, end=6, eta_min=1e-3),
        schedule(type="CosineAnnealingLR", begin=3, end=9, eta_min=1e-4),
    ),
    "linear": (schedule(type="PolyLR", power=1.0, begin=3),) * 2,
    "steps": (
        schedule(type="MultiStepLR", milestones=[4]),
        schedule(type="MultiStepLR", milestones=[2, 3, 7], gamma=0.5),
    ),
    "one cycle": (
        [{"type": "OneCycleLR", "by_epoch": False, "eta_max": 0.1, "total_steps": 7}],
        [{"type": "OneCycleLR", "by_epoch": False, "eta_max": 0.2, "total_steps": 13}],
    ),
    "restarts": (
        schedule(type="CosineRestartLR", periods=[4, 6], restart_weights=[1, 0.5], eta_min=0),
        schedule(type="CosineRestartLR", periods=[3, 8], restart_weights=[1, 1], eta_min=1e-3),
    ),
    "other kinds": (
        schedule(type="ExponentialLR", gamma=0.9),
        [{"type": "StepLR", "by_epoch": False, "step_size": 2}],
    ),
    "momentum": (
        [{"type": "CosineAnnealingMomentum", "by_epoch": False, "T_max": 8}],
        [{"type": "CosineAnnealingMomentum", "by_epoch": False, "T_max": 16}],
    ),
    "in epochs": (
        [{"type": "CosineAnnealingLR", "convert_to_iter_based": True, "T_max": 2, "end": 2}],
        [{"type": "CosineAnnealingLR", "convert_to_iter_based": True, "T_max": 3, "end": 3}],
    ),
    "taken away": (schedule(type="PolyLR"), None),
    "added": (None, schedule(type="PolyLR")),
}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [*((kind, True) for kind in SCHEDULES), ("cosine", False), ("other kinds", False)],
)
def test_rates_are_those_of_the_config_from_the_start(
    tmp_path: Path, kind: str, settings: bool
) -> None:
    old, new = SCHEDULES[kind]
    changed = {**LAYER_DECAY, "param_scheduler": new, "max_iters": 10}
    whole = train(tmp_path / "whole", **changed)
    train(tmp_path / "parts", **{**changed, "param_scheduler": old, "max_iters": 5})
    if not settings:
        without_settings(tmp_path / "parts", 5)
    resumed = train(tmp_path / "parts", **changed, resume=True)
    assert rates(resumed)[5:] == rates(whole)[5:]
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    for one, other in zip(
        resumed.optim_wrapper.param_groups, whole.optim_wrapper.param_groups, strict=True
    ):
        assert {k: v for k, v in one.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }
    lines = changes_in(resumed)
    assert "train_cfg.max_iters: 5 -> 10" in lines
    assert sum("param_scheduler" in line for line in lines) == 1
    log = Path(resumed.logger.log_file).read_text()
    assert "learning rates follow the config's schedule, now after 5 iterations: largest" in log


def test_a_longer_cosine_has_its_closed_form(tmp_path: Path) -> None:
    cosine = {"param_scheduler": [{"type": "CosineAnnealingLR", "by_epoch": False}]}
    train(tmp_path, **cosine, max_iters=6)
    found = rates(train(tmp_path, **cosine, max_iters=12, resume=True))
    expected = [0.025 * (1 + math.cos(math.pi * i / 12)) for i in range(6, 12)]
    assert found[6:] == pytest.approx(expected, rel=1e-9)


def test_what_is_unchanged_is_not_spoken_of(tmp_path: Path) -> None:
    train(tmp_path, **LAYER_DECAY, max_iters=8, custom_hooks=[])
    runner = train(tmp_path, **LAYER_DECAY, max_iters=8, custom_hooks=[], resume=True)
    assert changes_in(runner) == []


TAKEN = {
    "learning rate": ({"optim_wrapper__optimizer__lr": 0.1}, "optimizer.lr: 0.0125 to 0.05 -> "),
    "weight decay": (
        {"optim_wrapper__optimizer__weight_decay": 0.3},
        "optimizer.weight_decay: 0 to 0.1 -> 0 to 0.3",
    ),
    "layer decay": (
        {"optim_wrapper__paramwise_cfg__layer_decay_rate": 0.8},
        "optimizer.lr: 0.0125 to 0.05 -> 0.032 to 0.05",
    ),
    "betas": (
        {"optim_wrapper__optimizer__betas": (0.8, 0.95)},
        "optimizer.betas: (0.9, 0.999) -> (0.8, 0.95)",
    ),
    "groups": (
        {"optim_wrapper__paramwise_cfg__custom_keys": {"head": {"lr_mult": 2.0}}},
        "optimizer.lr: 0.0125 to 0.05 -> 0.0125 to 0.1",
    ),
    "clipping": (
        {"optim_wrapper__clip_grad": {"max_norm": 1.0}},
        "optim_wrapper.clip_grad: not set -> {'max_norm': 1.0}",
    ),
    "model": ({"model__nan_at": 999}, "model.nan_at: not set -> 999"),
    "averaging": (
        {"custom_hooks": [{"type": "mmbeit3.EMAHook", "momentum": 0.3}]},
        "custom_hooks.0.momentum: 0.1 -> 0.3",
    ),
    "data": (
        {"train_dataloader__dataset__num": 30},
        "training data: other annotations, samples: 22 -> 30; the order is that of the new data "
        "from here on",
    ),
    "batch": (
        {"train_dataloader__batch_size": 2},
        "batch: 1 process(es) x 4 images x 1 accumulated -> 1 process(es) x 2 images x 1 "
        "accumulated; images a step: 4 -> 2",
    ),
    "the same batch": (
        {"train_dataloader__batch_size": 2, "optim_wrapper__accumulative_counts": 2},
        "batch: 1 process(es) x 4 images x 1 accumulated -> 1 process(es) x 2 images x 2 "
        "accumulated, as many images a step",
    ),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_values_of_the_config_are_taken_and_said(tmp_path: Path, kind: str) -> None:
    changes, line = TAKEN[kind]
    fresh = train(tmp_path / "fresh", **{**LAYER_DECAY, **changes}, max_iters=4)
    train(tmp_path / "parts", **LAYER_DECAY, max_iters=2)
    resumed = train(tmp_path / "parts", **{**LAYER_DECAY, **changes}, max_iters=4, resume=True)
    lines = changes_in(resumed)
    assert any(found.startswith(line) for found in lines), lines
    groups = [runner.optim_wrapper.optimizer.param_groups for runner in (fresh, resumed)]
    for one, other in zip(*groups, strict=True):
        for key in one.keys() - {"params"}:
            assert one[key] == other[key], key
    assert rates(resumed)[2:] == rates(fresh)[2:]


def test_moments_stay_with_their_parameters_in_other_groups(tmp_path: Path) -> None:
    train(tmp_path, **LAYER_DECAY, max_iters=2)
    saved = read_checkpoint(tmp_path / "iter_2.pth")
    names = [name for group in saved["meta"]["settings"]["parameters"] for name in group]
    before = {name: saved["optimizer"]["state"][i]["exp_avg"] for i, name in enumerate(names)}
    changes = {"optim_wrapper__paramwise_cfg": {"layer_decay_rate": 0.5, "flat_decay_mult": 1.0}}
    runner = build(tmp_path, **{**LAYER_DECAY, **changes}, max_iters=2, resume=True)
    runner.train()
    assert len(runner.optim_wrapper.optimizer.param_groups) < len(
        saved["optimizer"]["param_groups"]
    )
    for name, param in runner.model.named_parameters():
        state = runner.optim_wrapper.optimizer.state[param]
        assert torch.equal(state["exp_avg"], before[name]), name


REFUSED = {
    "seed": ({"randomness__seed": 7}, "randomness.seed: 0 -> 7; .* set randomness.seed=0, or None"),
    "optimizer": (
        {
            "optim_wrapper__optimizer": {
                "_delete_": True,
                "type": "SGD",
                "lr": 0.05,
                "weight_decay": 0.1,
            }
        },
        "optim_wrapper.optimizer.type: AdamW -> SGD",
    ),
    "moments": (
        {"optim_wrapper__optimizer__amsgrad": True},
        "optimizer.amsgrad: False -> True; .* other moments",
    ),
    "end": (
        {"max_iters": 2},
        "train_cfg.max_iters: 4 -> 2, but 4 iterations are done; .* raise train_cfg.max_iters",
    ),
    "classes": (
        {"train_dataloader__dataset__classes": ("b", "a")},
        "the checkpoint has 2 classes, the training set 2; the first difference is class 0, 'a'",
    ),
    "loop": (
        {
            "train_cfg": {"_delete_": True, "type": "EpochBasedTrainLoop", "max_epochs": 9},
            "train_dataloader__sampler": {"_delete_": True, "type": "DefaultSampler"},
        },
        "a loop by iterations -> by epochs",
    ),
    "frozen": (
        {"model__frozen": True},
        r"parameters: 2 trained before and not now \(head.\w+, ...\)",
    ),
    "metrics": (
        {
            "param_scheduler": [
                {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "rule": "greater"},
                {"type": "LinearLR", "by_epoch": False, "end": 3},
            ]
        },
        "learning rates change .* ReduceOnPlateauLR lowers them by the metrics so far",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_go_on_is_refused(tmp_path: Path, kind: str) -> None:
    changes, message = REFUSED[kind]
    train(tmp_path, **LAYER_DECAY, max_iters=4)
    runner = build(tmp_path, **{**LAYER_DECAY, "max_iters": 8, **changes}, resume=True)
    with pytest.raises(
        InputError, match=rf"iter_4.pth cannot be resumed with this config:\n.*{message}"
    ):
        runner.train()
    assert not (tmp_path / "iter_5.pth").exists() and not (tmp_path / "iter_6.pth").exists()


def test_an_older_checkpoint_says_what_is_not_compared(tmp_path: Path) -> None:
    train(tmp_path, max_iters=4)
    without_settings(tmp_path, 4)
    changes = {"train_dataloader__batch_size": 2, "optim_wrapper__optimizer__lr": 0.01}
    lines = changes_in(train(tmp_path, **changes, max_iters=6, resume=True))
    assert lines[:2] == ["train_cfg.max_iters: 4 -> 6", "optimizer.lr: 0.05 -> 0.01"]
    assert "does not say what it was trained with: batch, annotations" in lines[2]


def test_without_averaging_the_trained_weights_go_on(tmp_path: Path) -> None:
    train(tmp_path, max_iters=4)
    saved = read_checkpoint(tmp_path / "iter_4.pth")
    runner = train(tmp_path, custom_hooks=[], max_iters=4, resume=True)
    for name, value in saved["ema_state_dict"].items():
        if name != "steps":
            assert torch.equal(runner.model.state_dict()[name.removeprefix("module.")], value)
    whole = train(tmp_path.parent / f"{tmp_path.name}_plain", custom_hooks=[], max_iters=6)
    parts = train(tmp_path, custom_hooks=[], max_iters=6, resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], value), name


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledWrapper(AmpOptimWrapper):
    """Loss scaling on the CPU."""

    def __init__(self, optimizer: Any, loss_scale: float = 64.0, **kwargs: Any) -> None:
        OptimWrapper.__init__(self, optimizer, **kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=loss_scale)
        self._scale_update_param = loss_scale
        self.cast_dtype = torch.bfloat16


def test_the_loss_scale_is_the_configs(tmp_path: Path) -> None:
    wrapper = {"optim_wrapper__type": "ScaledWrapper", "optim_wrapper__loss_scale": 64.0}
    train(tmp_path, **wrapper, max_iters=2)
    wrapper["optim_wrapper__loss_scale"] = 8.0
    runner = build(tmp_path, **wrapper, max_iters=2, resume=True)
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() == 8.0
    assert changes_in(runner) == ["optim_wrapper.loss_scale: 64 -> 8"]


def test_resuming_before_training_keeps_weights_and_rates(tmp_path: Path) -> None:
    scaled = {"auto_scale_lr": {"enable": True, "base_batch_size": 16}}
    train(tmp_path / "whole", **scaled)
    train(tmp_path / "parts", **scaled, max_iters=4)
    runner = build(tmp_path / "parts", **scaled)
    runner.resume(str(tmp_path / "parts" / "iter_4.pth"))
    runner.train()
    one, other = (read_checkpoint(tmp_path / name / "iter_8.pth") for name in ("whole", "parts"))
    for name, value in one["state_dict"].items():
        assert torch.equal(other["state_dict"][name], value), name


def test_a_one_cycle_schedule_can_be_resumed(tmp_path: Path) -> None:
    cycle = {"param_scheduler": SCHEDULES["one cycle"][1]}
    whole = train(tmp_path / "whole", **cycle)
    train(tmp_path / "parts", **cycle, max_iters=4)
    assert rates(train(tmp_path / "parts", **cycle, resume=True)) == rates(whole)


def test_nothing_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    train(tmp_path, max_iters=2)
    checkpoint = read_checkpoint(tmp_path / "iter_2.pth")
    trace = tmp_path / "was_run"
    checkpoint["meta"]["config"] = f"open({str(trace)!r}, 'w').close()"
    checkpoint["meta"]["cfg"] = checkpoint["meta"]["config"]
    replace(tmp_path / "iter_2.pth", checkpoint)
    train(tmp_path, max_iters=4, resume=True)
    assert not trace.exists()
