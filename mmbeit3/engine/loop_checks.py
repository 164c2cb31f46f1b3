"""Whether a training loop, its data order and what counts epochs or iterations fit each other."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.registry import LOOPS, PARAM_SCHEDULERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmbeit3.engine.randomness import generators_kept
from mmbeit3.utils import InputError

if TYPE_CHECKING:
    from mmbeit3.engine.runner import Runner

# Attributes of hooks, of mmengine and mmdet, that make them count epochs.
EPOCH_ATTRIBUTES = ("by_epoch", "begin_epoch", "switch_epoch")


def loop_type(loop: Mapping[str, Any] | BaseLoop | None) -> type | None:
    """Find the class of a training loop.

    Args:
        loop (Mapping | BaseLoop, optional): The config's ``train_cfg``, or the loop. Without
            ``type``, ``by_epoch`` decides, as in mmengine.

    Returns:
        type | None: The class, or None if there is no loop, or none of this name.
    """
    if loop is None or isinstance(loop, BaseLoop):
        return None if loop is None else type(loop)
    default = "EpochBasedTrainLoop" if loop.get("by_epoch", True) else "IterBasedTrainLoop"
    found = loop.get("type", default)
    return LOOPS.get(found) if isinstance(found, str) else found


def counts_epochs(loop: Mapping[str, Any] | BaseLoop | None) -> bool:
    """Tell whether a training loop, built or not, goes through the data epoch by epoch."""
    found = loop_type(loop)
    return isinstance(found, type) and issubclass(found, EpochBasedTrainLoop)


def check_train_loop(runner: Runner, loop: BaseLoop) -> None:
    """Check a training loop before its first step.

    Args:
        runner (Runner): The runner, its schedules not built yet.
        loop (BaseLoop): The loop.

    Raises:
        InputError: Training would not end, or what counts epochs would never act; the message
            has the lines to change.
    """
    schedules = _schedules(runner.param_schedulers)
    if counts_epochs(loop):
        problems = _problems_by_epoch(runner, loop)
    else:
        problems = _problems_by_iteration(runner, schedules)
    if problems:
        name = type(loop).__name__
        raise InputError(
            f"train_cfg.type is {name}, and the config does not fit it:\n  " + "\n  ".join(problems)
        )
    _say_what_resumes_inexactly(runner, loop)


def _say_what_resumes_inexactly(runner: Runner, loop: BaseLoop) -> None:
    """Name the types of mmengine that lose the place in the data or the state of a schedule."""
    sampler = getattr(loop.dataloader, "sampler", None)
    named = {
        "train_cfg.type": ("TrainLoop", type(loop) is IterBasedTrainLoop),
        "train_dataloader.sampler.type": ("InfiniteSampler", type(sampler) is InfiniteSampler),
        "default_hooks.checkpoint.type": (
            "CheckpointHook",
            any(type(hook) is CheckpointHook for hook in runner.hooks),
        ),
    }
    lines = [f'{key}="mmbeit3.{name}"' for key, (name, is_theirs) in named.items() if is_theirs]
    if lines:
        runner.logger.info(
            "a resumed training will not be exactly as one without interruption; for that set "
            + ", ".join(lines)
        )


def check_ends(dataloader: DataLoader, place: str) -> None:
    """Check that a loop over all of a data loader comes to an end.

    Args:
        dataloader (DataLoader): The loader.
        place (str): Its key in the config.

    Raises:
        InputError: It is endless.
    """
    if is_endless(dataloader):
        raise InputError(_endless(dataloader, place))


def is_endless(dataloader: DataLoader) -> bool:
    """Tell whether a loader goes on beyond its length, as with ``InfiniteSampler``."""
    batches = dataloader.batch_sampler
    if batches is None or not hasattr(batches, "__len__"):
        return False
    with generators_kept():
        return sum(1 for _ in islice(batches, len(batches) + 1)) > len(batches)


def _endless(dataloader: DataLoader, place: str) -> str:
    sampler = getattr(dataloader.batch_sampler, "sampler", dataloader.sampler)
    shuffle = place == "train_dataloader"
    return (
        f"{place}: {type(sampler).__name__} is endless, and epochs would never end; set "
        f'{place}.sampler.type="DefaultSampler", in a file '
        f'{place} = dict(sampler=dict(type="DefaultSampler", shuffle={shuffle}))'
    )


def _problems_by_epoch(runner: Runner, loop: BaseLoop) -> list[str]:
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is not None and not hook.by_epoch:
        runner.logger.log(
            logging.WARNING,
            "checkpoints are written inside epochs, from where a loop by epochs cannot go on: set "
            "default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))",
        )
    return [_endless(loop.dataloader, "train_dataloader")] if is_endless(loop.dataloader) else []


def _problems_by_iteration(runner: Runner, schedules: Iterable[Any]) -> list[str]:
    problems = []
    for index, schedule in enumerate(schedules):
        get = schedule.get if isinstance(schedule, Mapping) else vars(schedule).get
        place = f"param_scheduler.{index} ({get('type', type(schedule).__name__)})"
        if get("convert_to_iter_based"):
            if "end" not in schedule:
                problems.append(
                    f"{place} is converted from epochs and has no end; state it, in epochs"
                )
        elif get("by_epoch", True) and not _watches_metrics(schedule):
            problems.append(
                f"{place} counts epochs (by_epoch=True is mmengine's default), of which this loop "
                "has none: set by_epoch=False and count iterations, or convert_to_iter_based=True"
            )
    for hook in runner.hooks:
        for name in EPOCH_ATTRIBUTES:
            if getattr(hook, name, False):
                problems.append(
                    f"{type(hook).__name__} counts epochs ({name}={getattr(hook, name)}), of which "
                    f"this loop has none: {_cure(hook, name)}"
                )
    if runner.log_processor.by_epoch:
        runner.logger.warning(
            "the log counts epochs, of which this loop has none: set "
            "log_processor = dict(by_epoch=False)"
        )
    return problems


def _watches_metrics(schedule: Any) -> bool:
    """Tell whether a schedule acts on validations, as ReduceOnPlateauLR, whatever it counts."""
    kind = schedule.get("type") if isinstance(schedule, Mapping) else type(schedule)
    kind = PARAM_SCHEDULERS.get(kind) if isinstance(kind, str) else kind
    return getattr(kind, "need_val_args", False)


def _cure(hook: Any, name: str) -> str:
    if isinstance(hook, CheckpointHook):
        return "set default_hooks = dict(checkpoint=dict(by_epoch=False, interval=ITERATIONS))"
    return "set by_epoch=False" if name == "by_epoch" else "set its iteration, or take it out"


def _schedules(found: Any) -> list[Any]:
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def iterations_per_epoch(runner: Runner) -> int:
    """Count the optimizer steps in which a loop by iterations sees the training set once.

    The length of the loader is not it: that knows neither the other processes nor accumulation.
    """
    return max(1, math.ceil(len(runner.train_dataloader.dataset) / runner.images_per_step))
