"""Top-level keys of a config that something reads, and those that a name of the user's may mean."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from mmengine.runner import Runner

# Views of test-time augmentation and the key of their pipeline. The Runner reads neither, and
# among its keys train_pipeline would be taken for a misspelling of them.
TTA_PIPELINES = {"multi-scale": "tta_pipeline", "flip": "tta_pipeline_flip"}
# What people call things, from the command lines of other toolboxes and from mmdet 2.x.
ALIASES = {
    "lr": ("optim_wrapper.optimizer.lr",),
    "base_lr": ("optim_wrapper.optimizer.lr",),
    "learning_rate": ("optim_wrapper.optimizer.lr",),
    "weight_decay": ("optim_wrapper.optimizer.weight_decay",),
    "optimizer": ("optim_wrapper.optimizer",),
    "optimizer_config": ("optim_wrapper.clip_grad",),
    "lr_config": ("param_scheduler",),
    "lr_scheduler": ("param_scheduler",),
    "scheduler": ("param_scheduler",),
    "max_iter": ("train_cfg.max_iters", "param_scheduler"),
    "max_iters": ("train_cfg.max_iters", "param_scheduler"),
    "total_iters": ("train_cfg.max_iters", "param_scheduler"),
    "iters": ("train_cfg.max_iters", "param_scheduler"),
    "max_epochs": ("train_cfg.max_epochs", "train_cfg.max_iters", "param_scheduler"),
    "total_epochs": ("train_cfg.max_epochs", "train_cfg.max_iters", "param_scheduler"),
    "epochs": ("train_cfg.max_epochs", "train_cfg.max_iters", "param_scheduler"),
    "runner": ("train_cfg",),
    "val_interval": ("train_cfg.val_interval",),
    "evaluation": ("val_evaluator", "train_cfg.val_interval"),
    "batch_size": ("train_dataloader.batch_size",),
    "samples_per_gpu": ("train_dataloader.batch_size",),
    "train_batch_size": ("train_dataloader.batch_size",),
    "workers": ("train_dataloader.num_workers",),
    "num_workers": ("train_dataloader.num_workers",),
    "workers_per_gpu": ("train_dataloader.num_workers",),
    "data": ("train_dataloader.dataset", "val_dataloader.dataset"),
    "data_root": (
        "train_dataloader.dataset.data_root",
        "val_dataloader.dataset.data_root",
        "val_evaluator.ann_file",
    ),
    "classes": ("train_dataloader.dataset.metainfo.classes",),
    # Heads follow from the data.
    "num_classes": ("train_dataloader.dataset.metainfo.classes",),
    "class_names": ("train_dataloader.dataset.metainfo.classes",),
    "train_pipeline": ("train_dataloader.dataset.pipeline",),
    "val_pipeline": ("val_dataloader.dataset.pipeline",),
    "test_pipeline": ("test_dataloader.dataset.pipeline",),
    "pretrained": ("model.backbone.init_cfg.checkpoint", "load_from"),
    "checkpoint": ("load_from",),
    "resume_from": ("resume", "load_from"),
    "save_best": ("default_hooks.checkpoint.save_best",),
    "checkpoint_config": ("default_hooks.checkpoint",),
    "log_config": ("default_hooks.logger",),
    "log_interval": ("default_hooks.logger.interval",),
    "seed": ("randomness.seed",),
    "dist_params": ("env_cfg.dist_cfg",),
    "accumulative_counts": ("optim_wrapper.accumulative_counts",),
    "clip_grad": ("optim_wrapper.clip_grad",),
}
SIMILAR = 0.8
MAX_KEYS = 4


@cache
def runner_keys() -> frozenset[str]:
    """Top-level keys that mmengine's Runner and the tools read."""
    keys = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    # Read from the whole config by mmengine and the tools.
    keys |= {"custom_imports", "activation_checkpointing", "compile", "runner_type"}
    keys |= {"model_wrapper_cfg", "find_unused_parameters", "sync_bn"}
    keys |= {"efficient_conv_bn_eval", "tta_model", "task"}  # the last by inference/task.py
    return frozenset(keys)


def is_read(name: str) -> bool:
    """Tell whether a top-level key has a meaning; else it is a variable of the file."""
    return name in runner_keys() or name in TTA_PIPELINES.values()


def meant_keys(cfg: Mapping[str, Any], name: str) -> list[str]:
    """Dotted keys of a config that a name which nothing reads may stand for.

    Args:
        cfg: The config.
        name: The name.

    Returns:
        Those that common usage means by the name, else those that end with it or almost with it.
    """
    cfg = dict(cfg.items())
    alias = name if name in ALIASES else _closest(name, ALIASES)
    found = [key for key in ALIASES.get(alias, ()) if _may_hold(cfg, key)]
    if found:
        return found
    keys = [key for top in cfg if is_read(top) for key in _keys(cfg[top], top)]
    by_end: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: key.count(".")):
        by_end.setdefault(key.rpartition(".")[2], []).append(key)
    longer = next((end for end in by_end if len(name) > 4 and end.startswith(name)), "")
    end = name if name in by_end else _closest(name, by_end) or longer
    return by_end.get(end, [])[:MAX_KEYS]


def _closest(name: str, others: Mapping[str, Any]) -> str:
    return next(iter(difflib.get_close_matches(name, others, n=1, cutoff=SIMILAR)), "")


def _may_hold(cfg: Any, key: str) -> bool:
    """Tell whether a config has this key, or a dict where it can be put."""
    *parents, last = key.split(".")
    for part in parents:
        absent: dict | None = {} if part == "metainfo" else None  # every data set takes it
        cfg = cfg.get(part, absent) if isinstance(cfg, Mapping) else None
    if not isinstance(cfg, Mapping):
        return False
    # A loop counts either iterations or epochs.
    return last in cfg or not (last.startswith("max_") or last == "ann_file")


def _keys(node: Any, place: str) -> Iterator[str]:
    yield place
    items: Any = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, value in items:
        if isinstance(node, Mapping) or isinstance(value, (Mapping, list, tuple)):
            yield from _keys(value, f"{place}.{key}")
