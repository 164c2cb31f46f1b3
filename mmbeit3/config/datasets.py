"""The data sets of a config: one walk over all of them, inside wrappers and concatenations too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import path as osp
from typing import Any

from mmengine.config import Config, ConfigDict

from mmbeit3.registry import DATASETS

SPLITS = ("train", "val", "test")
DATALOADERS = tuple(f"{split}_dataloader" for split in SPLITS)
COCO_TYPE = "mmbeit3.CocoDataset"
SEG_FOLDER_TYPE = "mmbeit3.SegFolderDataset"


def innermost_datasets(node: Any, place: str = "dataset") -> Iterator[tuple[str, ConfigDict]]:
    """Find the data sets that read files, inside wrappers and concatenations.

    Args:
        node: A data set of a config, or a list of such.
        place: Its dotted key. Defaults to 'dataset'.

    Yields:
        Dotted key and settings of each.
    """
    if isinstance(node, (list, tuple)):
        for index, entry in enumerate(node):
            yield from innermost_datasets(entry, f"{place}.{index}")
    elif isinstance(node, dict):
        inner = [key for key in ("dataset", "datasets") if node.get(key)]
        if not inner and "type" not in node and all(isinstance(v, dict) for v in node.values()):
            inner = list(node)  # data sets by name
        for key in inner:
            yield from innermost_datasets(node[key], f"{place}.{key}")
        if not inner:
            yield place, node


def find_datasets(
    cfg: Config, splits: Sequence[str] = SPLITS, own: bool = True
) -> list[tuple[str, ConfigDict]]:
    """Find the innermost data sets of a config.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test'. Defaults to all.
        own: Whether only those are wanted whose class says what its classes are
            (``read_class_names``), as this package's do. Defaults to True.

    Returns:
        Dotted keys and settings.
    """
    return [
        found
        for split in splits
        for found in innermost_datasets(
            (cfg.get(f"{split}_dataloader") or {}).get("dataset"), f"{split}_dataloader.dataset"
        )
        if not own or hasattr(dataset_class(found[1]), "read_class_names")
    ]


def own_datasets(cfg: Config, splits: Sequence[str] = SPLITS) -> list[tuple[str, ConfigDict]]:
    """Find the innermost data sets of this package's types, with classes or without.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test'. Defaults to all.

    Returns:
        Dotted keys and settings.
    """
    return [
        found
        for found in find_datasets(cfg, splits, own=False)
        if getattr(dataset_class(found[1]), "__module__", "").startswith("mmbeit3.")
    ]


def distinct(datasets: Sequence[tuple[str, ConfigDict]]) -> list[tuple[str, ConfigDict]]:
    """Leave out data sets that are there before with the same settings."""
    found: list[tuple[str, ConfigDict]] = []
    for place, config in datasets:
        if all(config != known for _, known in found):
            found.append((place, config))
    return found


def dataset_class(config: Mapping[str, Any]) -> Any:
    """The class of a data set of a config; None where no registry has it."""
    kind = config.get("type")
    if not isinstance(kind, str):
        return kind
    try:
        with DATASETS.switch_scope_and_registry(None) as registry:
            return registry.get(kind)
    except (ImportError, RuntimeError):  # of a package that is not installed
        return None


def data_path(config: Mapping[str, Any], key: str) -> str:
    """A file that a data set of a config names, below its ``data_root``."""
    return osp.join(config.get("data_root") or "", config.get(key) or "")
