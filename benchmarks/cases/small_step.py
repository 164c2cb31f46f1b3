"""A training step of the demo's detector: a small model, four small images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from torch import Tensor

from benchmarks.benchmark import Candidate, Case
from benchmarks.data import model_config
from benchmarks.options import Options
from mmbeit3.config.classes import resolve_classes
from mmbeit3.datasets.shapes import make_shapes
from mmbeit3.registry import DATASETS, MODELS

CONFIG = "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
COUNT, SIZE = 4, 128
KINDS = {"losses": 1, "losses and gradients": 2, "the whole step": 3}


def small_step(options: Options) -> Case:
    """Losses, gradients, clipping and AdamW with layer decay, of the demo's detector."""
    return Case(
        "small-step",
        f"tiny Cascade Mask R-CNN, a training step of {COUNT} images of {SIZE} x {SIZE}, float32",
        tuple(
            Candidate(
                name, build, dict(device=options.device, parts=parts), items=COUNT, memory=False
            )
            for name, parts in KINDS.items()
        ),
        (),
    )


def build(device: str, parts: int) -> Callable[[], Tensor]:
    """Make a call that returns the sum of the losses.

    Args:
        device: A device of PyTorch.
        parts: How much of a step: 1 for the losses, 2 with gradients, 3 with the optimizer.
    """
    cfg = model_config(CONFIG, {"train_dataloader.dataset.data_root": f"{_shapes().name}/"})
    resolve_classes(cfg)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    set_random_seed(0)
    model = MODELS.build(cfg.model)
    model.to(device).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    data = pseudo_collate([dataset[index] for index in range(COUNT)])

    def call() -> Tensor:
        torch.manual_seed(0)  # of the samples of boxes, and of dropped paths
        if parts == 3:
            losses: Any = model.train_step(data, optimizer)
            return losses["loss"].detach()
        model.zero_grad(set_to_none=True)
        batch = model.data_preprocessor(data, True)
        loss, _ = model.parse_losses(model(**batch, mode="loss"))
        if parts == 2:
            loss.backward()
        return loss.detach()

    return call


@cache
def _shapes() -> tempfile.TemporaryDirectory:
    """Make the images; the folder goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="mmbeit3-small-step-")
    make_shapes(Path(folder.name), COUNT, 1, SIZE, seed=0)
    return folder
