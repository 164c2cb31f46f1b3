"""Naming the images of a folder by a trained classifier, or by names alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmbeit3.checkpoint import dataset_meta_of, load_weights, loading_safely, read_checkpoint
from mmbeit3.config import check_arguments
from mmbeit3.config.classes import follow_checkpoint
from mmbeit3.datasets import imagenet_class_names
from mmbeit3.datasets.class_names import read_class_names
from mmbeit3.inference.inferencer import resolve_device
from mmbeit3.models.acceleration import accelerate
from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import find_images

IMAGENET = 1000


@dataclass
class Named:
    """What an image was found to show.

    Attributes:
        path: The file.
        names: The classes of the highest probability, the first one first.
        scores: Their probabilities.
        error: Why the file could not be read; names and scores are then empty. Defaults to None.
    """

    path: Path
    names: list[str]
    scores: list[float]
    error: str | None = None


@loading_safely()
def classify_folder(
    cfg: Config,
    checkpoint: str | Path,
    folder: str | Path,
    names: str | Path | Sequence[str] | None = None,
    templates: str | Path | Sequence[str] | None = None,
    top: int = 5,
    device: str = "auto",
) -> list[Named]:
    """Name the images of a folder and below; they need no labels.

    Args:
        cfg: The config of a classifier, as :func:`mmbeit3.config.load_config` returns it.
        checkpoint: Its weights.
        folder: The folder, or one image.
        names: The classes: a list, or a file with one a line. A model that reads names
            (:class:`mmbeit3.models.BEiT3TextClassifier`) takes any. Defaults to None: those that
            the checkpoint was trained on, of a file without names and with 1,000 classes those of
            ImageNet.
        templates: Of a model that reads names: sentences with ``{}``, a file of them, or "default".
            Defaults to None, as the config says.
        top: How many classes to return for an image. Defaults to 5.
        device: A device of PyTorch, or "auto". Defaults to "auto".

    Returns:
        One entry for each image, by path.

    Raises:
        InputError: Config, checkpoint, names or folder cannot be used.
    """
    if top < 1:
        raise InputError(f"top is {top}; expected 1 or more")
    cfg = copy.deepcopy(cfg)
    check_arguments(cfg, "infer")
    init_default_scope(cfg.get("default_scope", "mmbeit3"))
    if isinstance(names, (str, Path)):
        names = read_class_names(names).names
    images = find_images(Path(folder))
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    content = read_checkpoint(checkpoint)
    model, classes = _load(cfg, content, names, templates)
    model.to(resolve_device(device)).eval()
    accelerate(model)
    found: list[Named] = []
    for batch in _batches(images, cfg.test_dataloader.get("batch_size", 1)):
        found += _classify(model, pipeline, batch, classes, top)
    return found


def _load(
    cfg: Config,
    content: Mapping[str, Any],
    names: Sequence[str] | None,
    templates: str | Path | Sequence[str] | None,
) -> tuple[nn.Module, tuple[str, ...]]:
    """A model with the weights of a file, and the names of its classes."""
    trained_on = dataset_meta_of(content.get("meta")).get("classes")
    if trained_on:
        follow_checkpoint(cfg, trained_on)
    model = MODELS.build(cfg.model)
    load_weights(model, content)
    number = getattr(model, "num_classes", None)
    classes = names or trained_on
    if classes is None and number == IMAGENET:
        classes = tuple(imagenet_class_names().values())
    if classes is None:
        raise InputError(
            "the checkpoint does not say what its classes are called: give names, a list or a file "
            "with one a line"
        )
    if number not in (None, len(classes)):
        raise InputError(
            f"there are {len(classes)} names and the head has {number} classes; expected one name "
            "for each, in the order of the labels. A model that takes any names is "
            "mmbeit3.BEiT3TextClassifier"
        )
    if number is None:
        model.set_classes(classes, templates)
    elif templates is not None:
        raise InputError(
            "templates are for models that read names, and this one has a linear head: leave them "
            "out"
        )
    return model, tuple(classes)


def _batches(images: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _classify(
    model: nn.Module,
    pipeline: Compose,
    paths: Sequence[Path],
    classes: tuple[str, ...],
    top: int,
) -> list[Named]:
    found: dict[Path, Named] = {}
    packed = {}
    for path in paths:
        try:
            packed[path] = pipeline({"img_path": str(path)})
        except InputError as error:
            found[path] = Named(path, [], [], str(error))
    if packed:
        with torch.no_grad():
            samples = model.test_step(pseudo_collate(list(packed.values())))
        for path, sample in zip(packed, samples, strict=True):
            scores, labels = sample.pred_scores.topk(min(top, len(classes)))
            found[path] = Named(path, [classes[i] for i in labels], scores.tolist())
    return [found[path] for path in paths]
