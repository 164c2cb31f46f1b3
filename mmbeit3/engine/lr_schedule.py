"""The learning rates that a config's training would have, iteration by iteration."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import _ParamScheduler
from mmengine.registry import (
    DATASETS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
    init_default_scope,
)
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.optim import Optimizer

from mmbeit3.config.devices import auto_accumulation
from mmbeit3.engine.layer_decay import LayerDecayConstructor, num_layers_of
from mmbeit3.engine.param_groups import ParamGroup, place_name
from mmbeit3.utils import InputError
from mmbeit3.utils.lora import add_lora


@dataclass
class Curve:
    """Parameters that learn at one rate.

    Args:
        name (str): Where they are, in words.
        parameters (int): How many there are.
        lr (np.ndarray): (iterations,) float64, the learning rate of each iteration.
    """

    name: str
    parameters: int
    lr: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass
class Length:
    """How long a training is, in iterations of one optimizer step.

    Args:
        iterations (int): All of them.
        epoch (int, optional): Those of an epoch; None where nothing is counted in epochs.
        by_epoch (bool): Whether epochs end, at which schedulers may act.
    """

    iterations: int
    epoch: int | None
    by_epoch: bool

    def ends_epoch(self, iteration: int) -> bool:
        """Tell whether an epoch ends with this iteration, counted from 0."""
        return self.by_epoch and self.epoch is not None and (iteration + 1) % self.epoch == 0


def simulate(cfg: Config, epoch_iters: int | None = None) -> list[Curve]:
    """Run the schedulers of a config over its whole training, without training.

    The model is built without memory for its weights, the optimizer by the config's constructor.
    The learning rate is the config's: not scaled to a batch size, as ``--auto-scale-lr`` does.

    Args:
        cfg (Config): The config.
        epoch_iters (int, optional): Iterations of an epoch. Defaults to the batches of the training
            set for one process; it is loaded only if the config counts in epochs.

    Returns:
        list[Curve]: From the patches to the heads; parameters that differ in weight decay alone
        share one.

    Raises:
        InputError: If the config has no training, or its training set is needed and not there.
    """
    absent = [key for key in ("train_cfg", "optim_wrapper") if not cfg.get(key)]
    if absent:
        raise InputError(f"the config has no learning rates: it has no {', '.join(absent)}")
    init_default_scope(cfg.get("default_scope", "mmengine"))
    length = find_length(cfg, epoch_iters)
    optimizer, curves = _optimizer_and_curves(cfg)
    schedulers = _schedulers(cfg, optimizer, length)
    rates = np.empty((length.iterations, len(curves)))
    quiet = not Console().is_terminal
    for iteration in track(range(length.iterations), "learning rates", disable=quiet):
        rates[iteration] = [group["lr"] for group in optimizer.param_groups]
        if iteration == 0:
            optimizer.step()  # without gradients: nothing, but schedulers ask for it
        for scheduler in schedulers:
            if not scheduler.by_epoch or length.ends_epoch(iteration):
                scheduler.step()
    for curve, lr in zip(curves, rates.T, strict=True):
        curve.lr = lr
    return curves


def find_length(cfg: Config, epoch_iters: int | None = None) -> Length:
    """Find out how many iterations a training has; arguments and errors as :func:`simulate`."""
    by_epoch = cfg.train_cfg.get("by_epoch", "Epoch" in str(cfg.train_cfg.get("type")))
    in_epochs = by_epoch or any(s.get("convert_to_iter_based") for s in _scheduler_cfgs(cfg))
    if in_epochs and epoch_iters is None:
        epoch_iters = _epoch_iters(cfg, by_epoch)
    count = cfg.train_cfg.get("max_epochs" if by_epoch else "max_iters")
    if not count:
        wanted = "max_epochs" if by_epoch else "max_iters"
        raise InputError(f"train_cfg says no {wanted}, which is the length of the training")
    return Length(count * epoch_iters if by_epoch else count, epoch_iters, by_epoch)


def _epoch_iters(cfg: Config, by_epoch: bool) -> int:
    """Count the iterations of an epoch: batches, or, in a loop by iterations, optimizer steps."""
    loader: Any = cfg.train_dataloader
    counts: Any = 1
    if not by_epoch:
        counts = cfg.optim_wrapper.get("accumulative_counts", 1)
        counts = auto_accumulation(cfg, loader.batch_size) if counts == "auto" else counts
    try:
        images = len(DATASETS.build(copy.deepcopy(loader.dataset)))
    except (InputError, OSError) as error:
        raise InputError(
            "the schedule counts in epochs, and how many iterations one has is known from the "
            f"training set, which cannot be loaded: {error}. Give --epoch-iters"
        ) from error
    return math.ceil(images / (loader.batch_size * (counts or 1)))


def _optimizer_and_curves(cfg: Config) -> tuple[Optimizer, list[Curve]]:
    """Build the optimizer and keep of its groups one for each learning rate."""
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        add_lora(model)
    options = copy.deepcopy(cfg.optim_wrapper)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=options.get("constructor", "DefaultOptimWrapperConstructor"),
            optim_wrapper_cfg=dict(type="OptimWrapper", optimizer=options.optimizer),
            paramwise_cfg=options.get("paramwise_cfg"),
        )
    )
    optimizer = constructor(model).optimizer
    by_name: dict[str, tuple[dict[str, Any], Curve]] = {}
    for group, name in zip(
        optimizer.param_groups, _names(constructor, model, optimizer), strict=True
    ):
        _, curve = by_name.setdefault(name, (group, Curve(name, 0)))
        curve.parameters += sum(param.numel() for param in group["params"])
    optimizer.param_groups[:] = [group for group, _ in by_name.values()]
    return optimizer, [curve for _, curve in by_name.values()]


def _names(constructor: Any, model: nn.Module, optimizer: Optimizer) -> Iterable[str]:
    """Name the optimizer's groups; those that learn at one rate share a name."""
    if not isinstance(constructor, LayerDecayConstructor):
        return [f"lr {group['lr']:g}" for group in optimizer.param_groups]
    groups = constructor.groups(model)
    members: dict[ParamGroup, list[str]] = defaultdict(list)
    for group, found in groups.items():  # those that differ in weight decay alone are at one place
        members[group._replace(weight_decay=0.0)] += [name for name, _ in found]
    num_layers, names = num_layers_of(model), []
    for group in groups:
        if not group.frozen:
            inside = members[group._replace(weight_decay=0.0)]
            place = place_name(group.layer, group.layer, num_layers, inside)
            names.append(f"{place} ({group.key!r})" if group.key else place)
    return names


def _scheduler_cfgs(cfg: Config) -> list[dict[str, Any]]:
    found = cfg.get("param_scheduler") or []
    return [found] if isinstance(found, dict) else list(found)


def _schedulers(cfg: Config, optimizer: Optimizer, length: Length) -> list[_ParamScheduler]:
    """Build the schedulers as mmengine's Runner does."""
    ends = {False: length.iterations, True: cfg.train_cfg.get("max_epochs", 1)}
    given = dict(optimizer=optimizer, epoch_length=length.epoch)
    return [
        PARAM_SCHEDULERS.build(
            dict(dict(end=ends[s.get("by_epoch", True)]) | s), default_args=given
        )
        for s in _scheduler_cfgs(cfg)
    ]
