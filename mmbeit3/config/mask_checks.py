"""Whether the model, the pipelines and the metrics of a detection config agree about masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from mmbeit3.config.datasets import SPLITS, find_datasets
from mmbeit3.config.evaluation_checks import MASKS, coco_metrics


def find_mask_problems(cfg: Config, splits: Sequence[str]) -> list[str]:
    """Find a mask head without masks to learn from, and a metric without masks to score.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test'.

    Returns:
        What does not fit, each with the options that make the detector one of boxes alone.
    """
    model = cfg.get("model") or {}
    roi_head = model.get("roi_head")
    if not isinstance(roi_head, dict):
        return []
    problems = []
    has_head = bool(roi_head.get("mask_head"))
    if "train" in splits and has_head:
        loaders = [step for _, step in _annotation_steps(cfg, "train")]
        if loaders and not any(step.get("with_mask") for step in loaders):
            problems.append(
                "model.roi_head has a mask_head, but the training pipeline loads no masks "
                "(LoadAnnotations has no with_mask=True). Load them, or train boxes alone:\n"
                + boxes_alone(cfg)
            )
    for split in splits:
        for place, metric in coco_metrics(cfg, split) if not has_head else ():
            if MASKS in _listed(metric.get("metric", "bbox")):
                problems.append(
                    f"{place} scores masks (metric 'segm'), but model.roi_head has no mask_head. "
                    f"Score boxes alone:\n{boxes_alone(cfg)}"
                )
    return problems


def boxes_alone(cfg: Config) -> str:
    """The options that make a config train and score boxes without masks.

    Args:
        cfg: The config of a detector.
    """
    roi_head = cfg.model.get("roi_head") or {}
    heads = [key for key in ("mask_head", "mask_roi_extractor") if roi_head.get(key)]
    lines = [f"model.roi_head.{key}=None" for key in heads]
    for split in SPLITS:
        lines += [
            f"{place}.with_mask=False"
            for place, step in _annotation_steps(cfg, split)
            if step.get("with_mask")
        ]
        lines += [
            f"{place}.metric=bbox"
            for place, metric in coco_metrics(cfg, split)
            if MASKS in _listed(metric.get("metric", "bbox"))
        ]
    return f"  --cfg-options {' '.join(lines)}"


def _annotation_steps(cfg: Config, split: str) -> Iterator[tuple[str, Any]]:
    """Place and settings of the steps that load annotations in the data sets of a split."""
    for place, settings in find_datasets(cfg, (split,)):
        yield from _loaders(settings.get("pipeline"), f"{place}.pipeline")


def _loaders(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, (list, tuple)):
        for index, entry in enumerate(node):
            yield from _loaders(entry, f"{place}.{index}")
    elif isinstance(node, dict):
        if str(node.get("type")).endswith("LoadAnnotations"):
            yield place, node
        yield from _loaders(node.get("transforms"), f"{place}.transforms")


def _listed(metric: Any) -> list[str]:
    return [metric] if isinstance(metric, str) else list(metric)
