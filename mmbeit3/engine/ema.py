"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import EMAHook as MMEngineEMAHook
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor

from mmbeit3.checkpoint.sharded import shard_as, whole
from mmbeit3.registry import HOOKS
from mmbeit3.utils import InputError

PREFIX = "module."  # mmengine's, of the names under ``ema_state_dict``


@HOOKS.register_module()
class EMAHook(Hook):
    """Averages the weights over the steps, validates the average and saves it.

    After each step ``average += momentum * (weight - average)``. Checkpoints are laid out as those
    of mmengine's hook: ``state_dict`` holds the averaged weights, ``ema_state_dict`` the ones that
    training goes on with. Other than that hook it keeps no second model, only one more copy of the
    trained parameters, sharded where the model is; buffers are those of the model.

    Args:
        momentum (float): 1 - decay. Defaults to 0.0001, the decay of 0.9999 of the records with
            Objects365 (EVA-02, ViT-Adapter).

    Raises:
        InputError: ``momentum`` is not between 0 and 1.
    """

    def __init__(self, momentum: float = 0.0001) -> None:
        if not 0 < momentum < 1:
            raise InputError(
                f"EMAHook.momentum is {momentum}; expected 1 - decay, such as 0.0001 for 0.9999"
            )
        self.momentum = momentum
        self.weights: dict[str, Tensor] = {}
        self.average: dict[str, Tensor] = {}
        self.steps = 0
        self.aliases: dict[str, str] = {}  # further names of parameters that modules share
        self._resumed: dict[str, Tensor] = {}
        self._swapped = False

    def before_train(self, runner: Any) -> None:
        """Begin with the weights as they are, or with what was resumed."""
        model = getattr(runner.model, "module", runner.model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: param.data for name, param in trained.items()}
        self.average = {name: value.clone() for name, value in self.weights.items()}
        names = {id(param): name for name, param in trained.items()}
        self.aliases = {
            alias: names[id(param)]
            for alias, param in model.named_parameters(remove_duplicate=False)
            if id(param) in names and alias != names[id(param)]
        }
        for name, average in self.average.items():
            if name in self._resumed:
                average.copy_(shard_as(self._resumed[name], average))
        self._resumed = {}

    @torch.no_grad()
    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Move the average towards the weights."""
        self.steps += 1
        torch._foreach_lerp_(
            list(self.average.values()), list(self.weights.values()), self.momentum
        )

    def before_val_epoch(self, runner: Any) -> None:
        """Validate the average."""
        self._swap()

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Train on with the weights."""
        self._swap()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the average into the place of the weights, and these beside it."""
        if not self.average:
            return
        # While the average is validated, the two stand in each other's place already.
        with self._in_place():
            average, weights = whole(self.average), whole(self.weights)
        average |= {alias: average[name] for alias, name in self.aliases.items()}
        weights |= {alias: weights[name] for alias, name in self.aliases.items()}
        checkpoint["state_dict"].update(average)
        checkpoint["ema_state_dict"] = {PREFIX + name: value for name, value in weights.items()}
        checkpoint["ema_state_dict"]["steps"] = torch.tensor(self.steps)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Resume with the weights, and keep the average for the start of the training."""
        if not runner._resume:
            return
        if checkpoint.get("ema_state_dict") is None:
            print_log("the checkpoint has no averaged weights: averaging begins here", "current")
            return
        state = checkpoint["state_dict"]
        beside = _beside(checkpoint)
        self.steps = int(checkpoint["ema_state_dict"].get("steps", 0))
        self._resumed = {name: state[name] for name in beside}
        checkpoint["state_dict"] = {**state, **beside}

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        swapped = self._swapped
        if swapped:
            self._swap()
        try:
            yield
        finally:
            if swapped:
                self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.weights.items():
            kept = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)
        self._swapped = bool(self.weights) and not self._swapped


def averages(hook: Hook) -> bool:
    """Tell whether a hook averages weights and lays out checkpoints as :class:`EMAHook` does."""
    return isinstance(hook, (EMAHook, MMEngineEMAHook))


def trained_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Find the weights that training goes on with, for one that averages no longer."""
    return {**checkpoint["state_dict"], **_beside(checkpoint)}


def _beside(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    pairs = checkpoint.get("ema_state_dict") or {}
    return {name.removeprefix(PREFIX): value for name, value in pairs.items() if name != "steps"}
