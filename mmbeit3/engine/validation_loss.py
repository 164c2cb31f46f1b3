"""The loss on the validation set, beside its metrics."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mmbeit3.datasets.transforms.loading import loads_image
from mmbeit3.engine.randomness import Stream, generators_kept, seed_generators
from mmbeit3.engine.runner import without_wrappers
from mmbeit3.registry import HOOKS
from mmbeit3.utils import InputError
from mmbeit3.utils.collective import mean_over_ranks


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Computes the losses of a detector or segmentor on the validation set.

    They are metrics of each validation, ``val/loss`` and its terms, such as ``val/loss_rpn_cls``:
    in the log, in TensorBoard, in the curves, and for ``save_best`` and early stopping. The images
    pass one by one, as the validation sees them, with the annotations that the training loads, in
    evaluation mode and without gradients; what the model draws at random depends on the image
    alone. The mean over images is hence the same on any number of processes, and the training goes
    on as if nothing had been computed. It costs about one more validation.

    Args:
        num_images (int, optional): How many images, evenly spaced, are enough. Defaults to None,
            all.
    """

    priority = "HIGHEST"  # before what logs and watches metrics, and while an average is in place

    def __init__(self, num_images: int | None = None) -> None:
        if num_images is not None and num_images < 1:
            raise InputError(f"ValidationLossHook.num_images is {num_images}; expected 1 or more")
        self.num_images = num_images
        self._dataset: Any = None

    def before_train(self, runner: Any) -> None:
        """Build the data, so that what is wrong with them is told at the start.

        Raises:
            InputError: There is no validation, or the model is no detector or segmentor.
        """
        from mmdet.models.detectors.base import BaseDetector
        from mmseg.models.segmentors.base import BaseSegmentor

        model = without_wrappers(runner.model)
        if not isinstance(model, (BaseDetector, BaseSegmentor)):
            raise InputError(
                f"ValidationLossHook is for detectors and segmentors, and the model is a "
                f"{type(model).__name__}: take the hook out of custom_hooks"
            )
        loader = runner.cfg.get("val_dataloader")
        if not loader or runner.val_loop is None:
            raise InputError(
                "ValidationLossHook needs a validation: set val_dataloader, val_cfg and "
                "val_evaluator, or take the hook out of custom_hooks"
            )
        self._workers = loader.get("num_workers", 0)
        cfg = copy.deepcopy(dict(loader["dataset"]))
        cfg["pipeline"] = loss_pipeline(
            runner.cfg["train_dataloader"]["dataset"], cfg.get("pipeline", ())
        )
        self._dataset = DATASETS.build(cfg)

    @torch.no_grad()
    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Add the losses to the metrics of a validation within a training."""
        if metrics is None or self._dataset is None:
            return
        model = without_wrappers(runner.model)
        device = next(model.parameters()).device
        devices = [device] if device.type == "cuda" else []
        with generators_kept(), torch.random.fork_rng(devices=devices):
            losses = self._losses(model, runner.seed)
        metrics.update({f"val/{name}": value for name, value in losses.items()})

    def _losses(self, model: Any, seed: int) -> dict[str, float]:
        total = len(self._dataset)
        count = min(self.num_images or total, total)
        indices = [number * total // count for number in range(count)]
        rank, world_size = get_dist_info()
        # As many images in every process, as some heads wait for the others: the last ones of some
        # are the first image once more, and do not count.
        own = [
            indices[number] if number < count else indices[0]
            for number in range(rank, -(-count // world_size) * world_size, world_size)
        ]
        counted = len(range(rank, count, world_size))
        loader = DataLoader(
            Subset(self._dataset, own),
            num_workers=self._workers,
            collate_fn=pseudo_collate,
        )
        sums: dict[str, Tensor] = {}
        for number, data in enumerate(loader):
            seed_generators(seed, Stream.VALIDATION, own[number])
            data = model.data_preprocessor(data, True)
            _, terms = model.parse_losses(model(**data, mode="loss"))
            for name, value in terms.items():
                if "loss" in name:
                    value = value.detach().double() * (number < counted)
                    sums[name] = sums.get(name, 0) + value
        means = mean_over_ranks(sums)
        return {name: value * world_size / count for name, value in means.items()}


def loss_pipeline(train_dataset: Mapping[str, Any], pipeline: Any) -> list[Any]:
    """Turn the pipeline of a validation into one whose samples have a loss.

    A validation loads its annotations after images are resized, in the size of the file, as its
    metric wants them; losses want them to be resized along.

    Args:
        train_dataset (Mapping): Settings of the training set, of whose pipeline the loading of
            annotations is taken.
        pipeline (Sequence): Settings of the validation's transforms.

    Returns:
        list: Settings of transforms.

    Raises:
        InputError: Neither pipeline loads an image and annotations.
    """
    found = next(filter(None, (_annotations(steps) for steps in _pipelines(train_dataset))), None)
    steps = [step for step in pipeline if step not in _annotations(pipeline)]
    image = next((i for i, step in enumerate(steps) if loads_image(step)), None)
    if found is None or image is None:
        raise InputError(
            "ValidationLossHook needs a val_dataloader.dataset.pipeline that loads images, and a "
            "train_dataloader.dataset.pipeline that loads annotations (LoadAnnotations)"
        )
    return [*steps[: image + 1], *copy.deepcopy(found), *steps[image + 1 :]]


def _annotations(pipeline: Any) -> list[Any]:
    return [
        step
        for step in pipeline
        if str(step["type"]).rpartition(".")[2].startswith("Load") and not loads_image(step)
    ]


def _pipelines(dataset: Any) -> Iterator[Any]:
    """Pipelines of a data set and of those in it."""
    if isinstance(dataset, (list, tuple)):
        for each in dataset:
            yield from _pipelines(each)
    elif isinstance(dataset, Mapping):
        yield dataset.get("pipeline") or ()
        for key in ("dataset", "datasets"):
            yield from _pipelines(dataset.get(key))
