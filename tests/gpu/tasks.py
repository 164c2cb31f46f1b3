"""The trial of every task as a model and a batch of its own data set."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.datasets.shape_crops import make_shape_crops
from mmbeit3.datasets.shapes import tokenizer_texts
from mmbeit3.models import BEiT3TextClassifier
from mmbeit3.registry import MODELS
from mmbeit3.text import train_tokenizer
from tests.all_parts import load_all_parts

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Task:
    """A trial.

    Attributes:
        config: Path below ``configs``.
        precise: Whether rounding decides what is sampled or matched, so that only float64 gives
            two devices the same. Defaults to False.
        waits: How often a training step may wait for the device. Defaults to None: as often as
            the heads of mmdet and mmseg do.
    """

    config: str
    precise: bool = False
    waits: int | None = None


TASKS = {
    "detector": Task("beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py", True),
    "segmentor": Task("beit3_mask2former/mask2former_beit3-tiny_shapes.py"),
    "adapter": Task("beit3_mask2former/mask2former_beit3-tiny-adapter_shapes.py"),
    "retrieval": Task("beit3_retrieval/beit3-tiny-retrieval_128_shapes.py", waits=1),
    "linear classifier": Task("beit3_imagenet/beit3-tiny-linear_64_shapes.py"),
    "text classifier": Task("beit3_imagenet/beit3-tiny-text_64_shapes.py", waits=1),
    "vqa": Task("beit3_vqa/beit3-tiny-vqa_64_shapes.py", waits=0),
    "nlvr2": Task("beit3_nlvr2/beit3-tiny-nlvr2_64_shapes.py", waits=0),
    "captioning": Task("beit3_captioning/beit3-tiny-captioning_64_shapes.py", waits=2),
    "pretraining": Task("beit3_pretraining/beit3-tiny-pretraining_64_shapes.py", waits=8),
    "image tokenizer": Task("beit3_pretraining/vqkd-tiny_64_shapes.py", waits=2),
}


def make_data(root: Path) -> Path:
    """Generated images with all annotations, and the tokenizer of their captions."""
    make_shapes(root / "shapes", 6, 4, 64, plain=True)
    make_shape_crops(root / "crops", 6, 4)
    for name in ("shapes", "crops"):
        train_tokenizer(tokenizer_texts(), root / name / "captions.spm")
    return root


def make_task(name: str, data: Path) -> tuple[nn.Module, dict[str, dict[str, Any]]]:
    """The model of a task, and what its loaders give of ``data`` to train and to test with."""
    cfg = load_all_parts() if name == "pretraining" else load_config(CONFIGS / TASKS[name].config)
    folder = str(data / ("crops" if "crops" in str(cfg.get("data_root", "")) else "shapes"))
    cfg = type(cfg)(_moved(cfg._cfg_dict.to_dict(), folder))
    init_default_scope(cfg.get("default_scope", "mmbeit3"))
    seed()
    model = MODELS.build(cfg.model)
    batches = {}
    for split, size in (("train", 3), ("test", 2)):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        built = Runner.build_dataloader(loader, seed=0)
        batches[split] = next(iter(built))
        if isinstance(model, BEiT3TextClassifier) and split == "train":
            model.set_classes(built.dataset.metainfo["classes"])
    seed()
    if hasattr(model, "init_weights"):
        model.init_weights()
    if hasattr(model, "decode_head"):  # fresh queries say much the same: rounding would match them
        nn.init.normal_(model.decode_head.cls_embed.weight, std=1.0)
        nn.init.normal_(model.decode_head.mask_embed[-1].weight, std=1.0)
    return model, batches


def _moved(value: Any, folder: str) -> Any:
    """A config with ``folder`` in the place of ``data/NAME``, that loads no weights."""
    if isinstance(value, dict):
        kept = {key: x for key, x in value.items() if key != "init_cfg" or not _loads(x)}
        return {key: _moved(x, folder) for key, x in kept.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(x, folder) for x in value)
    if isinstance(value, str) and value.startswith("data/"):
        return f"{folder}/{value.split('/', 2)[2]}" if value.count("/") > 1 else folder
    return value


def _loads(init_cfg: Any) -> bool:
    return isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained"


def seed() -> None:
    """The same draws from here on."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


class DrawnOnCpu(TorchFunctionMode):
    """Within, random numbers of every device are those that the CPU draws."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        drawn = func in (torch.rand, torch.randn, torch.randint, torch.randperm)
        if not drawn or device is None or torch.device(device).type == "cpu":
            return func(*args, **kwargs)
        return func(*args, **kwargs | {"device": "cpu"}).to(device)


def train_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Losses and gradients of a batch as a loader gives it, by their names, where the model is."""
    seed()
    model.train().zero_grad()
    with DrawnOnCpu():
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode="loss") if isinstance(data, dict) else model(*data, mode="loss")
        total, logs = model.parse_losses(losses)
        total.backward()
    found = {name: value.detach() for name, value in logs.items()}
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {f"gradient of {name}": grad for name, grad in grads.items()}
