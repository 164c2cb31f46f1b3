"""Resuming from a state that no training can go on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.checkpoint.safe_loading import loading_kept
from mmbeit3.engine import build_runner
from mmbeit3.engine.state_checks import check_training_state
from mmbeit3.utils import InputError

from .toy import config

NAN, INFINITY = float("nan"), float("inf")


def spoil(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def spoilt(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return spoilt


def weight(value: float) -> Callable[[dict], None]:
    return lambda c: change(c["state_dict"], "head.weight", spoil(value))


def averaged(name: str, value: float) -> Callable[[dict], None]:
    return lambda c: change(c["ema_state_dict"], name, spoil(value))


def moment(key: str, value: float) -> Callable[[dict], None]:
    return lambda c: change(c["optimizer"]["state"][number_of(c)], key, spoil(value))


def change(place: dict, key: str, by: Callable[[Any], Any]) -> None:
    place[key] = by(place[key])


def number_of(checkpoint: dict, name: str = "head.weight") -> int:
    names = [each for group in checkpoint["meta"]["settings"]["parameters"] for each in group]
    numbers = [n for group in checkpoint["optimizer"]["param_groups"] for n in group["params"]]
    return dict(zip(names, numbers, strict=True))[name]


def without_names(checkpoint: dict) -> None:
    number = number_of(checkpoint)
    del checkpoint["meta"]["settings"]
    change(checkpoint["optimizer"]["state"][number], "exp_avg", spoil(NAN))


BAD: dict[str, tuple[Callable[[dict], Any], str]] = {
    "average": (weight(NAN), "holds NaN in head.weight;"),
    "weight": (averaged("module.head.weight", NAN), "NaN in ema_state_dict.head.weight;"),
    "weight too large": (averaged("module.head.bias", INFINITY), "infinity in ema_state_dict.head"),
    "moment": (moment("exp_avg", NAN), "NaN in optimizer.state of head.weight.exp_avg;"),
    "square": (moment("exp_avg_sq", INFINITY), "infinity in .* of head.weight.exp_avg_sq;"),
    "step": (moment("step", NAN), "NaN in optimizer.state of head.weight.step;"),
    "without names": (without_names, r"NaN in optimizer.state of parameter \d+.exp_avg;"),
    "rate": (
        lambda c: c["optimizer"]["param_groups"][0].update(lr=NAN),
        "NaN in optimizer.param_groups.0.lr;",
    ),
    "betas": (
        lambda c: c["optimizer"]["param_groups"][0].update(betas=(0.9, INFINITY)),
        "infinity in optimizer.param_groups.0.betas.1;",
    ),
    "loss scale": (
        lambda c: c["optimizer"].update(loss_scaler={"scale": INFINITY}),
        "infinity in optimizer.loss_scaler.scale;",
    ),
    "schedule": (
        lambda c: c["param_schedulers"][0].update(base_values=[NAN]),
        "NaN in param_schedulers.0.base_values.0;",
    ),
    "shape": (
        lambda c: change(
            c["optimizer"]["state"][number_of(c)], "exp_avg", lambda value: value[:, :3].clone()
        ),
        r"exp_avg of shape \(2, 3\) for head.weight of shape \(2, 16\)",
    ),
    "unknown average": (
        lambda c: c["ema_state_dict"].update({"module.tail": torch.ones(2)}),
        "tail without a weight of that name",
    ),
    "no averages": (lambda c: c.update(ema_state_dict=[1]), "is damaged, or of another program"),
    "steps": (lambda c: c["ema_state_dict"].update(steps=torch.tensor(NAN)), "is damaged"),
    "iterations": (lambda c: c["meta"].update(iter=-4), "its iter is -4, expected a count"),
    "too many": (lambda c: c["meta"].update(iter=1e300), "its iter is 1e.300, expected a count"),
    "epochs": (lambda c: c["meta"].update(epoch=None), "its epoch is None, expected a count"),
    "no meta": (lambda c: c.update(meta=3), "is damaged, or of another program"),
    "no groups": (lambda c: c["optimizer"].update(param_groups=7), "is damaged, or of another"),
    "no moments": (lambda c: c["optimizer"].update(state=[1]), "is damaged, or of another"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    with loading_kept():  # before the fixture that does it for each test
        build_runner(config(folder, max_iters=2, train_cfg__val_interval=100)).train()
    return read_checkpoint(folder / "iter_2.pth")


@pytest.mark.parametrize("kind", BAD)
def test_a_state_that_nothing_goes_on_from_is_named(
    kind: str, trained: dict[str, Any], tmp_path: Path
) -> None:
    spoil_it, message = BAD[kind]
    torch.save(trained, tmp_path / "copy.pth")
    content = read_checkpoint(tmp_path / "copy.pth")
    spoil_it(content)
    torch.save(content, tmp_path / "bad.pth")
    cfg = config(tmp_path / "run", max_iters=4, resume=True, load_from=str(tmp_path / "bad.pth"))
    with pytest.raises(InputError, match=message) as refused:
        build_runner(cfg).train()
    assert str(tmp_path / "bad.pth") in str(refused.value)


def test_what_may_be_infinite_passes(trained: dict[str, Any], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "copy.pth")
    content = read_checkpoint(tmp_path / "copy.pth")
    content["param_schedulers"][0]["best"] = INFINITY  # ReduceOnPlateauLR before a validation
    content["optimizer"]["param_groups"][0]["growth_rate"] = INFINITY  # Prodigy's default
    check_training_state(content, "it")
