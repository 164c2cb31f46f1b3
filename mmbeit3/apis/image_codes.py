"""The codes of all images of a pretraining, computed once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader, Subset

from mmbeit3.analysis.simulation import computing_type
from mmbeit3.config.data_checks import build_dataset
from mmbeit3.config.datasets import own_datasets
from mmbeit3.datasets import LoadImageCodes
from mmbeit3.datasets.image_codes import ImageCodes, stamp_of
from mmbeit3.datasets.transforms.image_codes import describe_view
from mmbeit3.inference.pipeline import track
from mmbeit3.models import BEiT3Pretraining
from mmbeit3.registry import MODELS, TRANSFORMS
from mmbeit3.utils import InputError, warn

SAVE_AFTER = 60.0  # seconds
ADVICE = (
    "put dict(type='mmbeit3.LoadImageCodes', file='codes.safetensors') before PackImageText in the "
    "pipelines of images and pairs"
)


def prepare_codes(cfg: Config) -> list[tuple[Path, int]]:
    """Compute the codes of the training images whose pipeline has ``LoadImageCodes``.

    They are computed as the training would: by the model's image tokenizer, in batches of the same
    size and in the same precision. What was computed is written once a minute, and when the
    computation is stopped.

    Args:
        cfg (Config): The config of a pretraining.

    Returns:
        list: The files, and how many images they have.

    Raises:
        InputError: No pipeline asks for codes, one may make another view of an image each time, or
            a data set or the model cannot be built.
    """
    scope = cfg.get("default_scope")
    datasets = []
    for place, config in own_datasets(cfg, ("train",)):
        with DefaultScope.overwrite_default_scope(scope):
            steps = [TRANSFORMS.build(step) for step in config.get("pipeline") or ()]
        files = [step.file for step in steps if isinstance(step, LoadImageCodes)]
        if files:
            rest = [
                given
                for given, step in zip(config.pipeline, steps, strict=True)
                if not isinstance(step, LoadImageCodes)
            ]
            built = build_dataset(config, scope, pipeline=rest)
            datasets.append((place, files[0], built, describe_view(steps)))
    if not datasets:
        raise InputError(f"no pipeline of train_dataloader has LoadImageCodes: {ADVICE}")
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
    if not isinstance(model, BEiT3Pretraining) or model.image_tokenizer is None:
        raise InputError("the config's model has no image_tokenizer; expected a pretraining's")
    model.init_frozen()
    model = model.to(get_device()).eval()
    found: dict[Path, int] = {}
    for place, file, dataset, view in datasets:
        codes = _open(Path(file), str(model.frozen_digest()), view)
        _compute(model, codes, place, dataset, cfg)
        found[codes.path] = len(codes.codes)
    return list(found.items())


def _open(path: Path, tokenizer: str, view: str) -> ImageCodes:
    """What is known already."""
    if path.exists():
        codes = ImageCodes.read(path)
        if (codes.tokenizer, codes.view) == (tokenizer, view):
            codes.drop_stale()
            return codes
        what = "image tokenizer" if codes.tokenizer != tokenizer else "preparation of the images"
        warn(f"{path} has the codes of another {what}: all are computed anew")
    return ImageCodes(path, tokenizer, view)


def _compute(
    model: BEiT3Pretraining, codes: ImageCodes, place: str, dataset: Any, cfg: Config
) -> None:
    """Add the codes of the images that have none, and save them."""
    if not hasattr(dataset, "get_data_info"):
        raise InputError(f"{place}: codes are kept of files, and {type(dataset).__name__} has none")
    numbers: dict[str, int] = {}  # of each image a sample
    for index in range(len(dataset)):
        numbers.setdefault(dataset.get_data_info(index)["img_path"], index)
    missing = [path for path in numbers if codes.find(path) is None]
    if not missing:
        return
    part = place.rpartition(".")[2]
    loader = cfg.train_dataloader
    size = loader.batch_size * (loader.dataset.get("samples") or {}).get(part, 1)
    stamps = {path: stamp_of(path) for path in missing}  # what is written later is not known
    batches = _batches(dataset, [numbers[path] for path in missing], size, loader)
    dtype = np.int16 if model.mim_head.out_features <= 2**15 else np.int32
    saved = time.monotonic()
    try:
        rows = (row for batch in batches for row in _codes(model, batch, part, cfg))
        for path, row in zip(missing, track(rows, len(missing)), strict=False):
            codes.add(path, stamps[path], row.astype(dtype))
            if time.monotonic() - saved > SAVE_AFTER:
                codes.save()
                saved = time.monotonic()
    finally:
        if codes.codes:
            codes.save()


def _batches(
    dataset: Any, numbers: Sequence[int], size: int, loader: ConfigDict
) -> Iterator[dict[str, Any]]:
    """Batches of a size, the last one filled up: kernels for other sizes may round differently."""
    filled = [*numbers, *[numbers[-1]] * (-len(numbers) % size)]
    yield from DataLoader(
        Subset(dataset, filled),
        batch_size=size,
        num_workers=loader.get("num_workers", 0),
        collate_fn=pseudo_collate,
    )


@torch.no_grad()
def _codes(model: BEiT3Pretraining, batch: dict[str, Any], part: str, cfg: Config) -> np.ndarray:
    """Codes (B, patches) of a batch."""
    device = get_device()
    half = computing_type(cfg, device)
    made = model.data_preprocessor({part: batch}, True)[part]
    with torch.autocast(device, half, enabled=half != torch.float32):
        return model.codes(made["inputs"]).cpu().numpy()
