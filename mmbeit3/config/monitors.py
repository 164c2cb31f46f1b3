"""Metrics that a training watches, compared with those that its validation gives."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmbeit3.config.types import TypeFinder
from mmbeit3.utils import InputError, listed

AUTO = "auto"  # of save_best: the first metric
LOSS = re.compile(r"val/.*loss")  # what mmbeit3.ValidationLossHook gives


def check_monitors(cfg: Config) -> None:
    """Make sure that the validation gives every metric that a hook or schedule watches.

    These are ``save_best`` of a checkpoint hook, and ``monitor`` of ``EarlyStoppingHook`` and of
    schedules that reduce on a plateau. Which metrics there will be is known of the metrics that
    have a ``metric_names``, as this project's; with others among them nothing is refused.

    Args:
        cfg: The config; the classes of its data sets are resolved.

    Raises:
        InputError: A metric that is watched will not be there.
    """
    if not cfg.get("val_evaluator") or cfg.get("val_cfg") is None:
        _check_without_validation(cfg)
        return
    names = _metric_names(cfg)
    has_loss = any(_is_named(hook, "ValidationLossHook") for _, hook in _hooks(cfg))
    _check_rules(cfg)
    for place, monitor in _monitors(cfg):
        if LOSS.match(monitor) and not has_loss:
            raise InputError(
                f"{place} is {monitor!r}, the loss on the validation set, which nothing computes: "
                "add dict(type='mmbeit3.ValidationLossHook') to custom_hooks"
            )
        if LOSS.match(monitor) or names is None or monitor in names:
            continue
        close = difflib.get_close_matches(monitor, names, n=1, cutoff=0.0)
        cure = f"; set it to {close[0]!r}" if close else ""
        given = listed(names, 6) or "no metrics"
        raise InputError(f"{place} is {monitor!r}, but val_evaluator gives {given}{cure}")


def _check_without_validation(cfg: Config) -> None:
    for place, monitor in _monitors(cfg):
        if not place.endswith("save_best"):
            raise InputError(
                f"{place} is {monitor!r}, but the config has no validation that measures it: it "
                "needs val_dataloader, val_cfg and val_evaluator"
            )
        print_log(
            f"{place} is {monitor!r}, but the config has no validation: no best checkpoint will "
            "be kept",
            "current",
            logging.WARNING,
        )


def _check_rules(cfg: Config) -> None:
    """Raise an InputError where the largest loss would be kept as the best."""
    for place, hook in _hooks(cfg):
        best = hook.get("save_best") if isinstance(hook, Mapping) else None
        if isinstance(best, str) and LOSS.match(best) and hook.get("rule") == "greater":
            raise InputError(
                f"{place}.save_best is {best!r} and rule 'greater', with which the worst weights "
                f"are kept: set {place}.rule='less'"
            )


def _hooks(cfg: Config) -> list[tuple[str, Any]]:
    hooks = (cfg.get("default_hooks") or {}).items()
    return [
        *((f"default_hooks.{key}", hook) for key, hook in hooks),
        *_entries("custom_hooks", cfg.get("custom_hooks")),
    ]


def _monitors(cfg: Config) -> Iterator[tuple[str, str]]:
    """Dotted key and name of each metric that is watched."""
    for place, hook in _hooks(cfg):
        best = hook.get("save_best") if isinstance(hook, Mapping) else None
        for name in [best] if isinstance(best, str) else best or ():
            if name != AUTO:
                yield f"{place}.save_best", name
        if _is_named(hook, "EarlyStoppingHook") and "monitor" in hook:
            yield f"{place}.monitor", hook["monitor"]
    for place, schedule in _entries("param_scheduler", cfg.get("param_scheduler")):
        if _is_named(schedule, "ReduceOnPlateau"):
            yield f"{place}.monitor", schedule.get("monitor", "loss")


def _entries(place: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        return [(f"{place}.{index}", entry) for index, entry in enumerate(value)]
    return [(place, value)] if value else []


def _is_named(node: Any, part: str) -> bool:
    kind = node.get("type") if isinstance(node, Mapping) else None
    return part in (kind if isinstance(kind, str) else getattr(kind, "__name__", ""))


def _metric_names(cfg: Config) -> list[str] | None:
    """All metrics that the validation gives, None if they are not known."""
    evaluator = cfg.val_evaluator
    front = [""]
    if isinstance(evaluator, Mapping) and "metrics" in evaluator:
        kind = evaluator.get("type", "Evaluator")
        if _is_named(evaluator, "MultiDatasetsEvaluator"):
            front = [f"{prefix}/" for prefix in evaluator.get("dataset_prefixes", ())]
        elif kind != "Evaluator":
            return None
        evaluator = evaluator["metrics"]
    types = TypeFinder(cfg.get("default_scope"))
    metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    if len(front) < len(metrics):
        front *= len(metrics)
    names: list[str] = []
    for ahead, metric in zip(front, metrics, strict=False):
        if not isinstance(metric, Mapping):
            return None
        kind = types.find(metric.get("type"), ("METRICS",))
        find_names = getattr(kind, "metric_names", None)
        own = find_names(metric, _classes(cfg)) if find_names else None
        if own is None:
            return None
        prefix = metric.get("prefix") or getattr(kind, "default_prefix", None)
        names += [f"{ahead}{prefix}/{name}" if prefix else f"{ahead}{name}" for name in own]
    return names


def _classes(cfg: Config) -> Sequence[str] | None:
    """Classes of the validation set, None if it does not name them."""
    dataset = (cfg.get("val_dataloader") or {}).get("dataset")
    while isinstance(dataset, Mapping):
        if found := (dataset.get("metainfo") or {}).get("classes"):
            return None if isinstance(found, str) else found
        inner = dataset.get("dataset") or dataset.get("datasets")
        dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
    return None
