"""What a resumed training takes from its config, and what from the checkpoint.

Weights, averages and the optimizer's moments come from the checkpoint. Everything else is the
config's, if the run then stands where a run with this config would stand at this iteration:
learning rates follow the config's schedule from its beginning, the data its order and batch. Each
value that changes is a line in the log, "old -> new"; what cannot be continued is refused.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import EpochBasedTrainLoop

from mmbeit3.utils import InputError, compare_classes

if TYPE_CHECKING:
    from mmbeit3.engine.runner import Runner

SETTINGS = "settings"  # where a checkpoint's meta keeps what the training was run with

# Of a schedule's state, what moves while it runs; the rest is what it was built with.
MOVING = {"last_step", "_global_step", "_last_value", "verbose", "base_values"}
# How the optimizer computes, not what.
IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
# Options that decide which moments the optimizer keeps; a state without them cannot go on.
MOMENT_FLAGS = ("amsgrad", "centered")
UNCOMPARED_MODEL_KEYS = ("init_cfg",)  # weights come from the checkpoint
UNCOMPARED_DATA_KEYS = (
    "data_root",  # the content of the files is compared instead
    "ann_file",
    "classes_file",
    "data_prefix",
    "backend_args",
    "metainfo",
    "lazy_init",
    "serialize_data",
)
MAX_LINES = 8  # of one part of the config
ABSENT = "not set"


@dataclass
class ResumePlan:
    """How to go on from a checkpoint.

    Attributes:
        changes (list[str]): What differs from the run that wrote it, for the log.
        rebuild_schedules (bool): Whether learning rates follow from the config, rather than from
            the state of the schedules in the checkpoint.
        keep_loss_scale (bool): Whether the loss scale is that of the checkpoint.
    """

    changes: list[str] = field(default_factory=list)
    rebuild_schedules: bool = False
    keep_loss_scale: bool = True


def training_settings(runner: Runner) -> dict[str, Any]:
    """Describe what a training is run with, beside what its optimizer's state tells.

    Args:
        runner (Runner): The runner, with its training loop and optimizer built.

    Returns:
        dict: Plain data, which a later run compares with its own.
    """
    cfg, loop = runner.cfg, runner.train_loop
    wrapper = {
        key: value
        for key, value in (cfg.get("optim_wrapper") or {}).items()
        if key not in ("optimizer", "constructor", "paramwise_cfg", "accumulative_counts")
    }
    loader = cfg.get("train_dataloader") or {}
    return {
        "by_epoch": isinstance(loop, EpochBasedTrainLoop),
        "optimizer": type(runner.optim_wrapper.optimizer).__name__,
        "parameters": runner.parameter_names(),
        "schedules": [type(schedule).__name__ for schedule in runner.param_schedulers or ()],
        "optim_wrapper": plain(wrapper),
        "batch": _batch(runner),
        "data": runner.data_digest,
        "train_dataloader": plain(
            {key: loader.get(key) for key in ("dataset", "sampler", "batch_sampler")},
            UNCOMPARED_DATA_KEYS,
        ),
        "model": plain(cfg.get("model") or {}, UNCOMPARED_MODEL_KEYS),
        "custom_hooks": plain(cfg.get("custom_hooks") or []),
        "frozen": runner.frozen_digests(),
    }


def compare_frozen(old: Any, new: Mapping[str, str]) -> str | None:
    """Compare what a model asks and does not train with what it was trained with.

    Args:
        old (Any): What a checkpoint's meta has under :data:`SETTINGS`.
        new (Mapping): Digests of the weights by name.

    Returns:
        str | None: How they differ; None if they do not, or one is not known.
    """
    before = (old.get("frozen") or {}) if isinstance(old, dict) else {}
    for name, digest in new.items():
        if before.get(name, digest) != digest:
            return (
                f"model.{name} has other weights (digest {digest}) than the one that the training "
                f"was begun with ({before[name]}), and what it tells has another meaning: set "
                f"model.{name}.init_cfg.checkpoint to the same file"
            )
    return None


def digest_data(dataset: Any) -> dict[str, Any]:
    """Describe the training data by number and content of the annotations.

    Args:
        dataset (Dataset): The data set, perhaps wrapped or concatenated.

    Returns:
        dict: ``samples`` (int), and ``digest`` (str) of the annotation files, or of the names of
        the image files where there are none; in other processes than the first, no digest.
    """
    digest = hashlib.blake2b(digest_size=16)
    if is_main_process():
        for leaf in _leaves(dataset):
            _add_content(digest, leaf)
    return {"samples": len(dataset), "digest": digest.hexdigest() if is_main_process() else None}


def plain(value: Any, without: Sequence[str] = ()) -> Any:
    """Turn a part of a config into dicts, lists, strings and numbers, as JSON has them.

    Args:
        value (Any): The part.
        without (Sequence[str]): Keys to leave out at any depth. Defaults to none.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, without) for k, v in value.items() if k not in without}
    if isinstance(value, (list, tuple, set)):
        return [plain(each, without) for each in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)


def plan_resuming(runner: Runner, checkpoint: Mapping[str, Any], filename: str) -> ResumePlan:
    """Compare a training with the checkpoint that it is to go on from.

    Args:
        runner (Runner): The runner, its optimizer and schedules as at their beginning.
        checkpoint (Mapping): The checkpoint's content.
        filename (str): Its name, for messages.

    Returns:
        ResumePlan: What changes, and how to go on.

    Raises:
        InputError: The run cannot go on with this config as if it had had it from its start.
    """
    found = checkpoint["meta"].get(SETTINGS)
    old = found if isinstance(found, dict) else {}
    new = training_settings(runner)
    plan = ResumePlan()
    refusals: list[str] = []
    _compare_loops(runner, checkpoint, old, plan, refusals)
    _compare_seeds(runner, checkpoint, refusals)
    _compare_data(runner, checkpoint, old, new, plan, refusals)
    _compare_optimizers(runner, checkpoint, old, new, plan, refusals)
    if other := compare_frozen(old, new["frozen"]):
        refusals.append(other)
    if old:
        for part in ("optim_wrapper", "train_dataloader", "model", "custom_hooks"):
            lines = [change(*each) for each in differences(old.get(part), new[part], part)]
            more = [f"... and {len(lines) - MAX_LINES} more of {part}"]
            plan.changes += lines[:MAX_LINES] + more * (len(lines) > MAX_LINES)
        scales = [(each.get("optim_wrapper") or {}).get("loss_scale") for each in (old, new)]
        plan.keep_loss_scale = scales[0] == scales[1]
    else:
        plan.changes.append(
            f"{filename} does not say what it was trained with: batch, annotations, augmentation, "
            "settings of the model, gradient clipping and hooks cannot be compared"
        )
    if refusals:
        raise InputError(
            f"{filename} cannot be resumed with this config:\n  "
            + "\n  ".join(refusals)
            + "\nTo start a new training from its weights, set load_from to it and leave "
            "resume out"
        )
    return plan


def restore_optimizer(runner: Runner, checkpoint: Mapping[str, Any], plan: ResumePlan) -> dict:
    """Bring the schedules, and the state that the optimizer is to load, to the checkpoint's point.

    Args:
        runner (Runner): The runner, its optimizer and schedules as at their beginning.
        checkpoint (Mapping): The checkpoint's content.
        plan (ResumePlan): What :func:`plan_resuming` found.

    Returns:
        dict: The state dict for the optimizer wrapper; its tensors are whole.
    """
    wrapper, schedules = runner.optim_wrapper, runner.param_schedulers or []
    old = checkpoint["optimizer"]
    if plan.rebuild_schedules:
        step_schedules(schedules, runner.iter, runner.epoch)
    else:
        for schedule, state in zip(
            schedules, checkpoint.get("param_schedulers") or (), strict=True
        ):
            schedule.load_state_dict(state)
    state = wrapper.state_dict()
    if not plan.rebuild_schedules:
        moved = _scheduled(schedules)
        pairs = [*zip(state["param_groups"], old["param_groups"], strict=True)]
        if "base_param_settings" in state and "base_param_settings" in old:
            pairs.append((state["base_param_settings"], old["base_param_settings"]))
        for group, before in pairs:
            group |= {key: value for key, value in before.items() if key in moved}
    numbers = _numbers(old["param_groups"], checkpoint["meta"])
    state["state"] = {
        number: old["state"][numbers[name]]
        for name, number in _numbers(state["param_groups"], _named(runner, checkpoint)).items()
        if numbers.get(name) in old["state"]
    }
    state.pop("loss_scaler", None)
    if "loss_scaler" in old and hasattr(wrapper, "loss_scaler") and plan.keep_loss_scale:
        state["loss_scaler"] = old["loss_scaler"]
    return state


def schedule_state(schedule: Any) -> dict[str, Any]:
    """Give the state of a schedule without its functions.

    A checkpoint with one, as mmengine's of OneCycleLR, has code to run and cannot be read again.
    """
    return {key: value for key, value in schedule.state_dict().items() if not callable(value)}


def step_schedules(schedules: Sequence[Any], iters: int, epochs: int = 0) -> None:
    """Take schedules from their beginning to a point of the training.

    mmengine's schedules multiply what the step before left, so that the exact rates are found by
    going through all steps, in the order in which training does.

    Args:
        schedules (Sequence): Schedules that have just been built.
        iters (int): Iterations done.
        epochs (int): Epochs done, 0 in a loop by iterations. Defaults to 0.
    """
    verbose = [schedule.verbose for schedule in schedules]
    for schedule in schedules:
        schedule.verbose = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer has made no step yet
        for done in range(1, iters + 1):
            ends_epoch = epochs and done % (iters // epochs) == 0
            for by_epoch in (False, True)[: 1 + bool(ends_epoch)]:
                for schedule in schedules:
                    if schedule.by_epoch == by_epoch:
                        schedule.step()
    for schedule, before in zip(schedules, verbose, strict=True):
        schedule.verbose = before


def differences(old: Any, new: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Find where two parts of configs differ.

    Yields:
        Dotted key, old and new value.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}.{index}")
    elif old != new:
        yield place, old, new


def change(place: str, old: Any, new: Any) -> str:
    """Write a change in one line."""
    return f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _compare_loops(
    runner: Runner,
    checkpoint: Mapping[str, Any],
    old: dict[str, Any],
    plan: ResumePlan,
    refusals: list[str],
) -> None:
    loop, meta = runner.train_loop, checkpoint["meta"]
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    kinds = {True: "epochs", False: "iterations"}
    was_by_epoch = old.get("by_epoch", meta["epoch"] > 0 or (by_epoch and not meta["iter"]))
    if was_by_epoch != by_epoch:
        refusals.append(
            f"train_cfg: a loop by {kinds[was_by_epoch]} -> by {kinds[by_epoch]}; go on with the "
            "old one"
        )
        return
    unit, done = ("max_epochs", meta["epoch"]) if by_epoch else ("max_iters", meta["iter"])
    limit = getattr(loop, unit)
    before = checkpoint["message_hub"].get("runtime_info", {}).get(unit)
    if done > limit:
        refusals.append(
            f"train_cfg.{unit}: {before} -> {limit}, but {done} {kinds[by_epoch]} are done; a run "
            f"with this config would have ended: raise train_cfg.{unit}, or take an earlier "
            "checkpoint"
        )
    elif before is not None and before != limit:
        plan.changes.append(change(f"train_cfg.{unit}", before, limit))
    length = len(runner.train_dataloader) if by_epoch else 0
    if by_epoch and meta["iter"] != meta["epoch"] * length:
        refusals.append(
            f"it stands after {meta['iter']} iterations, {meta['epoch']} of its epochs, and an "
            f"epoch of this config has {length}: a loop by epochs goes on at the end of one of the "
            "same length. Write checkpoints there (default_hooks.checkpoint=dict(by_epoch=True, "
            "interval=1)), and keep batch size, processes and data"
        )


def _compare_seeds(runner: Runner, checkpoint: Mapping[str, Any], refusals: list[str]) -> None:
    old, new = checkpoint["meta"].get("seed"), runner.configured_seed
    if None not in (old, new) and old != new:
        refusals.append(
            f"randomness.seed: {old} -> {new}; samples seen so far came in the order of {old}: set "
            f"randomness.seed={old}, or None, which takes the checkpoint's"
        )


def _compare_data(
    runner: Runner,
    checkpoint: Mapping[str, Any],
    old: dict[str, Any],
    new: dict[str, Any],
    plan: ResumePlan,
    refusals: list[str],
) -> None:
    metas = [
        checkpoint["meta"].get("dataset_meta"),
        getattr(runner.train_dataloader.dataset, "metainfo", None),
    ]
    classes = [list((meta or {}).get("classes") or ()) for meta in metas]
    word = (metas[1] or {}).get("class_word", "class")
    if all(classes) and (
        difference := compare_classes(
            "the checkpoint", classes[0], "the training set", classes[1], word
        )
    ):
        refusals.append(
            f"{difference}; the heads have learned the old ones in their order: go on with data of "
            "these classes, or name them by train_dataloader.dataset.metainfo=dict(classes=...)"
        )
    before, now = old.get("data") or {}, new["data"]
    if before and before != now:
        samples = change("samples", before["samples"], now["samples"])
        plan.changes.append(
            f"training data: other annotations, {samples}; the order is that of the new data from "
            "here on"
        )
    before, now = old.get("batch") or {}, new["batch"]
    if before and before != now:
        products = [
            "{processes} process(es) x {batch_size} images x {accumulated} accumulated".format(**b)
            for b in (before, now)
        ]
        images = change("images a step", before["images"], now["images"])
        same = before["images"] == now["images"]
        plan.changes.append(
            change("batch", *products) + (", as many images a step" if same else f"; {images}")
        )


def _compare_optimizers(
    runner: Runner,
    checkpoint: Mapping[str, Any],
    old: dict[str, Any],
    new: dict[str, Any],
    plan: ResumePlan,
    refusals: list[str],
) -> None:
    state = runner.optim_wrapper.state_dict()
    groups = [checkpoint["optimizer"]["param_groups"], state["param_groups"]]
    kind = old.get("optimizer", new["optimizer"])
    gone = {key for key in groups[0][0] if not key.startswith("initial_")} - set(groups[1][0])
    if kind != new["optimizer"] or (not old and gone - IMPLEMENTATION):
        found = kind if old else f"one with {', '.join(sorted(gone))}"
        refusals.append(
            f"optim_wrapper.optimizer.type: {found} -> {new['optimizer']}; the state of one cannot "
            "be that of the other: go on with the old one"
        )
        return
    values = [
        _by_parameter(groups[0], checkpoint["meta"]),
        _by_parameter(groups[1], _named(runner, checkpoint)),
    ]
    if values[0].keys() != values[1].keys():
        refusals.append(_other_parameters(values[0], values[1], bool(old.get("parameters"))))
        return
    keys = [key for key in groups[1][0] if not key.startswith("initial_") and key != "params"]
    changed = []
    for key in keys:
        pairs = [
            (_base(values[0][name], key), _base(values[1][name], key))
            for name in values[1]
            if key in values[0][name] and key in values[1][name]
        ]
        differing = [pair for pair in pairs if pair[0] != pair[1]]
        if not differing or key in IMPLEMENTATION:
            continue
        if key == "betas" and "initial_momentum" in groups[1][0]:
            continue  # moved by a momentum schedule
        line = change(f"optimizer.{key}", *(_spread(side) for side in zip(*pairs, strict=True)))
        loses_moments = key == "momentum" and any(0 in pair for pair in differing)
        if key in MOMENT_FLAGS or loses_moments:
            refusals.append(f"{line}; the optimizer then keeps other moments: go on with the old")
        changed.append(key)
        plan.changes.append(line)
    schedules = runner.param_schedulers or []
    lines = _schedule_changes(checkpoint.get("param_schedulers") or [], schedules, old)
    plan.changes += lines
    sizes = [[len(group["params"]) for group in side] for side in groups]
    names = [old.get("parameters"), new["parameters"]]
    regrouped = names[0] != names[1] if names[0] else sizes[0] != sizes[1]
    plan.rebuild_schedules = bool(lines) or regrouped or bool(set(changed) & _scheduled(schedules))
    watching = [type(each).__name__ for each in schedules if getattr(each, "need_val_args", False)]
    if plan.rebuild_schedules and watching:
        refusals.append(
            f"learning rates change ({'; '.join(plan.changes)}), and {watching[0]} lowers them by "
            "the metrics so far, which a run with this config would not have had: go on with the "
            "old ones"
        )


def _other_parameters(old: dict[Any, Any], new: dict[Any, Any], named: bool) -> str:
    if not named:
        return (
            f"the optimizer had {len(old)} parameters and has {len(new)}, and the checkpoint does "
            "not name them: go on with what was trained"
        )
    listed = {
        "trained before and not now": [name for name in old if name not in new],
        "trained now and not before": [name for name in new if name not in old],
    }
    texts = [
        f"{len(names)} {what} ({names[0]}{', ...' * (len(names) > 1)})"
        for what, names in listed.items()
        if names
    ]
    return f"parameters: {'; '.join(texts)}; go on with what was trained"


def _schedule_changes(
    states: Sequence[dict[str, Any]], schedules: Sequence[Any], old: dict[str, Any]
) -> list[str]:
    """Compare what schedules were built with, apart from the rates that they began at."""
    before = old.get("schedules") or ["a schedule"] * len(states)
    now = [type(schedule).__name__ for schedule in schedules]
    if len(states) != len(schedules) or (old and before != now):
        return [change("param_scheduler", *(", ".join(side) or "none" for side in (before, now)))]
    lines = []
    for index, (state, schedule) in enumerate(zip(states, schedules, strict=True)):
        built = schedule_state(schedule)
        moving = MOVING | ({"best", "num_bad_epochs", "cooldown_counter"} & built.keys())
        changed = [
            change(key, _listed(state.get(key, ABSENT)), _listed(built.get(key, ABSENT)))
            for key in sorted(built.keys() | state.keys())
            if key not in moving and state.get(key, ABSENT) != built.get(key, ABSENT)
        ]
        if changed:
            lines.append(f"param_scheduler.{index} ({now[index]}): {', '.join(changed)}")
    return lines


def _listed(value: Any) -> Any:
    return sorted(value) if isinstance(value, dict) else value  # milestones are a Counter


def _scheduled(schedules: Sequence[Any]) -> set[str]:
    """The options of a parameter group that schedules set, with what they began at."""
    names = {schedule.param_name for schedule in schedules}
    if "momentum" in names:
        names.add("betas")  # where mmengine puts the momentum of Adam
    return names | {f"initial_{name}" for name in names}


def _base(group: Mapping[str, Any], key: str) -> Any:
    value = group.get(f"initial_{key}", group[key])
    return tuple(value) if isinstance(value, list) else value


def _spread(values: Sequence[Any]) -> str:
    """Write the values of a group option: one, or the range over the groups."""
    distinct = sorted(set(values), key=str) if None in values else sorted(set(values))
    if len(distinct) == 1:
        return _short(distinct[0])
    return f"{_short(distinct[0])} to {_short(distinct[-1])}"


def _batch(runner: Runner) -> dict[str, int]:
    counts = getattr(runner.train_loop, "accumulative_counts", None)
    if counts is None:  # mmengine's loops accumulate in the optimizer wrapper
        counts = runner.optim_wrapper._accumulative_counts
    images = runner.images_per_step
    if not hasattr(runner.train_loop, "accumulative_counts"):
        images *= counts
    processes = get_world_size()
    return {
        "processes": processes,
        "batch_size": images // (processes * counts),
        "accumulated": counts,
        "images": images,
    }


def _named(runner: Runner, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Names of the parameters, in the form of a checkpoint's meta, if the checkpoint has them."""
    found = checkpoint["meta"].get(SETTINGS) or {}
    named = "parameters" in found
    return {SETTINGS: {"parameters": runner.parameter_names()}} if named else {}


def _numbers(groups: Sequence[dict[str, Any]], meta: Mapping[str, Any]) -> dict[Any, int]:
    """The number in a state dict of each parameter, by name, else by its place."""
    numbers = [number for group in groups for number in group["params"]]
    named = (meta.get(SETTINGS) or {}).get("parameters")
    names = [name for group in named for name in group] if named else range(len(numbers))
    return dict(zip(names, numbers, strict=True))


def _by_parameter(groups: Sequence[dict[str, Any]], meta: Mapping[str, Any]) -> dict[Any, dict]:
    """The group of each parameter, by the same keys."""
    of_number = {number: group for group in groups for number in group["params"]}
    return {name: of_number[number] for name, number in _numbers(groups, meta).items()}


def _leaves(dataset: Any) -> Iterator[Any]:
    """Data sets inside wrappers and concatenations."""
    inner = vars(dataset).get("datasets") or [vars(dataset).get("dataset")]
    if inner[0] is None:
        yield dataset
    else:
        for each in inner:
            yield from _leaves(each)


def _add_content(digest: Any, dataset: Any) -> None:
    file = getattr(dataset, "ann_file", None)
    if isinstance(file, (str, Path)) and Path(file).is_file():
        with open(file, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
        return
    if not hasattr(dataset, "get_data_info"):
        return
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        names = [Path(str(info.get(key, ""))).name for key in ("img_path", "seg_map_path")]
        digest.update("\n".join(names).encode())
