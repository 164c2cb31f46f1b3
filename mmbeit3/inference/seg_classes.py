"""What a segmentor's class numbers mean: names, colors, and the values in its training masks."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.config.datasets import find_datasets
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.datasets.palette import make_palette
from mmbeit3.utils import InputError
from mmbeit3.visualization.text_labels import Color

MAX_CLASSES = 256  # class maps are 8-bit files


@dataclass(frozen=True)
class SegClasses:
    """The classes of a segmentor, by index.

    Args:
        names (tuple): Names.
        palette (list): Colors, (blue, green, red), 0 to 255.
        offset (int, optional): What the masks it was trained on add to an index: 1 with mmseg's
            ``reduce_zero_label``, else 0; None if they number the classes in another way.
    """

    names: tuple[str, ...]
    palette: list[Color]
    offset: int | None


def find_seg_classes(cfg: Config, meta: Mapping[str, Any]) -> SegClasses:
    """Find the classes of a segmentor, and fit the heads in ``cfg`` to their number.

    The checkpoint knows what it was trained on; a file of weights alone does not, then the
    config's data set does: what it names, else what its type stands for. Where no colors are
    named, they are made up.

    Args:
        cfg (Config): The config; changed where its data sets are of this project's types.
        meta (Mapping): The checkpoint's ``meta``.

    Returns:
        SegClasses: The classes.

    Raises:
        InputError: If there are no names, more than 256, some twice, or not as many colors.
    """
    source = dataset_meta_of(meta)
    if source.get("classes"):
        follow_checkpoint(cfg, source["classes"])
    else:
        resolved = resolve_classes(cfg)
        source = _configured(cfg) or {"classes": resolved}
    if not source.get("classes"):
        raise InputError(
            "neither the checkpoint nor the config names the classes: give the file that training "
            "wrote, or a config whose data set names them: metainfo=dict(classes=(...))"
        )
    names = tuple(str(name).strip() for name in source["classes"])
    _check(names)
    colors = source.get("palette")
    palette = _to_bgr(make_palette(len(names)) if colors is None else colors, names)
    offset = None if source.get("label_map") else int(bool(source.get("reduce_zero_label")))
    return SegClasses(names, palette, offset)


def seg_classes(names: Sequence[str]) -> SegClasses:
    """Classes that the user has named; no masks were trained by their numbers.

    Args:
        names (Sequence[str]): Names.

    Returns:
        SegClasses: The classes, with colors made up.

    Raises:
        InputError: There are more than 256, or some twice.
    """
    names = tuple(names)
    _check(names)
    return SegClasses(names, _to_bgr(make_palette(len(names)), names), None)


def _check(names: Sequence[str]) -> None:
    if len(names) > MAX_CLASSES:
        raise InputError(
            f"there are {len(names)} classes, and class maps are 8-bit files: they hold at most "
            f"{MAX_CLASSES}"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"class names that occur more than once: {', '.join(twice)}")


def _to_bgr(colors: Sequence[Sequence[int]], names: Sequence[str]) -> list[Color]:
    kinds = (list, tuple, np.ndarray)
    if not isinstance(colors, kinds) or not all(map(_is_color, colors)):
        raise InputError(
            "the palette holds something else than colors; expected three numbers from 0 to 255 "
            "for each class"
        )
    if len(colors) != len(names):
        raise InputError(
            f"the palette has {len(colors)} colors for {len(names)} classes; expected one for each"
        )
    return [(int(blue), int(green), int(red)) for red, green, blue in colors]


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple, np.ndarray))
        and len(value) == 3
        and all(isinstance(part, Real) and 0 <= float(part) <= 255 for part in value)
    )


def _configured(cfg: Config) -> dict[str, Any]:
    """Return what the config says of the classes, the training set first; {} if nothing."""
    for _, dataset in find_datasets(cfg, own=False):
        if (found := _dataset_meta(dataset)).get("classes"):
            return found
    return {}


def _dataset_meta(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what mmseg would note of a data set, without its images."""
    kind = dataset["type"]
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    base = getattr(kind, "METAINFO", {})
    meta = base | dict(dataset.get("metainfo") or {})
    colors = _colors_in_file(dataset) or dict(
        zip(base.get("classes", ()), base.get("palette", ()), strict=False)
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
