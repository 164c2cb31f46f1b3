"""The state of a training that is resumed: NaN and infinity in it, and what it cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mmbeit3.checkpoint import state_dict_of
from mmbeit3.checkpoint.values import check_values
from mmbeit3.utils import InputError, listed

# Of a parameter group; others, such as a limit of an optimizer of the user's, may be infinite.
RATES: tuple[str, ...] = ("lr", "momentum", "betas", "weight_decay", "eps")
RATES += tuple(f"initial_{name}" for name in RATES)
SCHEDULED = ("base_values", "_last_value")  # of a schedule; its best metric so far may be infinite
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "sum")


def check_training_state(checkpoint: Mapping[str, Any], filename: str) -> None:
    """Refuse the state of a training that no training goes on from.

    Looked through are the weights, their averages or what stands beside them (``ema_state_dict``),
    the optimizer's moments and rates, the schedules and the loss scale.

    Args:
        checkpoint: The content.
        filename: What to call it.

    Raises:
        InputError: It holds NaN, infinity or complex numbers, which it names; the count of its
            iterations is none; or it is not laid out as a training writes it.
    """
    try:
        _check(checkpoint, filename)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise damaged_state(filename, error) from error


def damaged_state(filename: str, error: Exception) -> InputError:
    """What to raise where the state of a training is not laid out as expected."""
    return InputError(
        f"{filename} cannot be resumed: the state of its training is damaged, or of another "
        f"program ({type(error).__name__}: {error})"
    )


def _check(checkpoint: Mapping[str, Any], filename: str) -> None:
    for count in ("epoch", "iter"):
        found = checkpoint["meta"][count]
        if type(found) is not int or found < 0:
            raise InputError(
                f"{filename} cannot be resumed: its {count} is {found!r:.40}, expected a count. "
                "Take an earlier checkpoint"
            )
    state = state_dict_of(checkpoint)
    check_values(state, filename)
    averaged = checkpoint.get("ema_state_dict")
    if averaged is not None:
        _check_averaged(averaged, state, filename)
    check_values(dict(_of_optimizer(checkpoint, state, filename)), filename)


def _check_averaged(averaged: Any, state: Mapping[str, Tensor], filename: str) -> None:
    weights = {name.removeprefix("module."): averaged[name] for name in averaged}
    steps = int(weights.pop("steps", 0))
    unknown = [name for name in weights if name not in state]
    if unknown or steps < 0 or not all(isinstance(value, Tensor) for value in weights.values()):
        what = f"{listed(unknown)} without a weight of that name" if unknown else "no weights"
        raise InputError(
            f"{filename} cannot be resumed: its ema_state_dict has {what}. Take an earlier "
            "checkpoint"
        )
    check_values({f"ema_state_dict.{name}": value for name, value in weights.items()}, filename)


def _of_optimizer(
    checkpoint: Mapping[str, Any], state: Mapping[str, Tensor], filename: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield the numbers of optimizer, loss scale and schedules under names that tell them."""
    optimizer = checkpoint["optimizer"]
    groups = optimizer["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    named = (checkpoint["meta"].get("settings") or {}).get("parameters") or []
    listed_names = [name for group in named for name in group]
    names = dict(zip(numbers, listed_names, strict=True)) if listed_names else {}
    for number, moments in optimizer["state"].items():
        name = names.get(number, f"parameter {number}")
        _check_sizes(moments, name, state.get(name), filename)
        yield from _numbers(moments, f"optimizer.state of {name}")
    for index, group in enumerate(groups):
        rates = {key: group[key] for key in RATES if key in group}
        yield from _numbers(rates, f"optimizer.param_groups.{index}")
    yield from _numbers(optimizer.get("loss_scaler") or {}, "optimizer.loss_scaler")
    for index, schedule in enumerate(checkpoint.get("param_schedulers") or ()):
        values = {key: schedule[key] for key in SCHEDULED if key in schedule}
        yield from _numbers(values, f"param_schedulers.{index}")


def _check_sizes(
    moments: Mapping[str, Any], name: str, weight: Tensor | None, filename: str
) -> None:
    for key in MOMENTS:
        moment = moments.get(key)
        if weight is not None and isinstance(moment, Tensor) and moment.shape != weight.shape:
            raise InputError(
                f"{filename} cannot be resumed: its optimizer has {key} of shape "
                f"{tuple(moment.shape)} for {name} of shape {tuple(weight.shape)}. Take an earlier "
                "checkpoint"
            )


def _numbers(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _numbers(each, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _numbers(each, f"{place}.{index}")
    elif isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, float):
        yield place, torch.tensor(value)
