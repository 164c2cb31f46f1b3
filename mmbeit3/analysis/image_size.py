"""The size of the images that a config trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from mmbeit3.datasets.pretraining import PARTS
from mmbeit3.datasets.transforms.loading import all_steps
from mmbeit3.utils import InputError


def training_size(cfg: Config) -> tuple[int, int]:
    """Height and width, in pixels, of the largest images that a config trains on.

    What the data preprocessor pads to decides; else the last step of the training pipeline, then
    of the test pipeline, that crops or resizes; at last the grid of an encoder.

    Raises:
        InputError: Nothing in the config says it.
    """
    preprocessor = cfg.model.get("data_preprocessor") or {}
    fixed = [preprocessor, *(preprocessor.get("batch_augments") or ())]
    sizes = [_pair(node["size"]) for node in fixed if node.get("size")]
    for name in () if sizes else ("train_dataloader", "val_dataloader", "test_dataloader"):
        sizes = [size for step in _steps(cfg.get(name)) if (size := _size_of(step))]
        if sizes:
            break
    if not sizes and cfg.model.get("encoder"):  # data of another kind have the size of its grid
        sizes = [_pair(cfg.model.encoder.get("img_size") or 224)]
    if not sizes:
        raise InputError(
            "the config does not say how large training images are: no size in "
            "model.data_preprocessor, and no step of a pipeline that crops or resizes; give "
            "--size HEIGHT WIDTH"
        )
    divisor = preprocessor.get("pad_size_divisor") or 1
    height, width = (-(-side // divisor) * divisor for side in sizes[-1])
    return height, width


def set_training_size(cfg: Config, size: tuple[int, int]) -> None:
    """Make a config train on images of ``size`` (height, width) pixels, in place."""
    preprocessor = cfg.model.data_preprocessor
    augments = preprocessor.get("batch_augments") or ()
    for node in (preprocessor, *augments):
        if node.get("size"):
            node["size"] = size
    for step in _steps(cfg.get("train_dataloader")):
        if step.get("crop_size"):
            step["crop_size"] = size
        if step.get("scale"):
            step["scale"] = size[::-1]
    if training_size(cfg) != size:
        raise InputError(
            f"images of {size[0]} x {size[1]} cannot be had from this config: it makes them "
            f"{' x '.join(map(str, training_size(cfg)))}; pad_size_divisor may ask for that"
        )


def _steps(loader: Any) -> Iterator[Any]:
    """Steps of the pipelines of a data loader, inside wrapped data sets and other steps too."""
    nodes = [(loader or {}).get("dataset")]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (list, tuple)):
            nodes += node
        elif isinstance(node, dict):
            yield from all_steps(node.get("pipeline") or ())
            nodes += [node.get(key) for key in ("dataset", "datasets", *PARTS)]


def _size_of(step: Any) -> tuple[int, int] | None:
    """What a step crops or resizes to, at most; scales are (width, height)."""
    if step.get("crop_size"):
        return _pair(step["crop_size"])
    scales = step.get("scales") or ([step["scale"]] if step.get("scale") else [])
    if not scales or "Resize" not in str(step.get("type")):
        return None
    width, height = max(map(_pair, scales))
    ratio = max(step.get("ratio_range") or (1.0,))
    return round(height * ratio), round(width * ratio)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
