"""What a config says of the classes of its data: names, colors, how masks number them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.datasets import dataset_class, find_datasets
from mmbeit3.datasets.class_list import read_class_list


def configured_meta(cfg: Config) -> dict[str, Any]:
    """Return what the config says of the classes, the training set first; {} if nothing.

    Args:
        cfg: The config.

    Returns:
        As mmengine's ``metainfo`` of the data set, which is not built: ``classes``, ``palette``
        (None where it names no colors), ``reduce_zero_label``, and ``label_map``, whether the
        classes are a choice of those of the type.
    """
    for _, dataset in find_datasets(cfg, own=False):
        if (found := _dataset_meta(dataset)).get("classes"):
            return found
    return {}


def find_palette(cfg: Config, meta: Any, classes: Sequence[str]) -> Any:
    """Find the colors of classes: the checkpoint's, else the config's data set's.

    Args:
        cfg: The config.
        meta: The checkpoint's ``meta``.
        classes: Names of the classes.

    Returns:
        What is named as their palette, red, green, blue, unchecked; None if nothing is.
    """
    for source in (dataset_meta_of(meta), configured_meta(cfg)):
        same = _stripped(source.get("classes") or ()) == _stripped(classes)
        if same and source.get("palette") is not None:
            return source["palette"]
    return None


def _stripped(classes: Sequence[str]) -> list[str]:
    return [str(name).strip() for name in classes]


def _dataset_meta(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what mmseg would note of a data set, without its images."""
    kind = dataset_class(dataset)
    base = getattr(kind, "METAINFO", {})
    meta = base | dict(dataset.get("metainfo") or {})
    colors = _colors_in_file(dataset) or dict(
        zip(base.get("classes", ()), base.get("palette") or (), strict=False)
    )
    if "palette" not in (dataset.get("metainfo") or {}):
        known = all(name in colors for name in meta.get("classes", ()))
        meta["palette"] = [colors[name] for name in meta.get("classes", ())] if known else None
    if base.get("classes"):
        meta["label_map"] = list(base["classes"]) != list(meta["classes"])
    default = inspect.signature(kind).parameters.get("reduce_zero_label") if kind else None
    meta["reduce_zero_label"] = dataset.get("reduce_zero_label", default and default.default)
    return meta


def _colors_in_file(dataset: Mapping[str, Any]) -> dict[str, Sequence[int]]:
    """Colors (red, green, blue) by name in the ``classes_file`` of a data set; {} without one."""
    if not dataset.get("classes_file"):
        return {}
    file = Path(dataset.get("data_root") or "", dataset["classes_file"])
    return dict(zip(*read_class_list(file), strict=True)) if file.is_file() else {}
