"""A training of a small network on generated points, with all that a resumed one must repeat."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset


class Tower(nn.Module):
    """Two layers, and the answers of a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.num_layers = 2
        self.layers = nn.ModuleList([nn.Linear(4, 16), nn.Linear(16, 16)])

    @property
    def repeated_layers(self) -> nn.ModuleList:
        return self.layers

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        if not param_name.startswith(prefix):
            return 3, 4
        return int(param_name.removeprefix(prefix).split(".")[1]) + 1, 4


@MODELS.register_module(force=True)
class Net(BaseModel):
    """Has dropout, normalizes over the batch, and can be told to go wrong."""

    def __init__(self, nan_at: int = -1, no_memory_at: int = -1, frozen: bool = False) -> None:
        super().__init__()
        self.backbone = Tower()
        self.norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 2)
        self.head.requires_grad_(not frozen)
        self.nan_at, self.no_memory_at, self.calls = nan_at, no_memory_at, 0

    def forward(self, inputs: Tensor, labels: Tensor, mode: str, text: Any = None) -> Any:
        x = inputs
        for layer in self.backbone.layers:
            x = nn.functional.dropout(layer(x).relu(), 0.3, self.training)
        scores = self.head(self.norm(x))
        if mode != "loss":
            return list(zip(scores.argmax(1).tolist(), labels.tolist(), strict=True))
        self.calls += 1
        if self.calls == self.no_memory_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        loss = nn.functional.cross_entropy(scores, labels)
        bad = torch.tensor(float("nan" if self.calls == self.nan_at else 1))
        return {"loss_cls": loss, "loss_size": 0.01 * scores.square().mean() * bad}


def send_half(connection: Connection, content: Any, write: Any = os.write) -> None:
    """Write the head of a message and a part of the rest, and die with the lock in hand."""
    write(connection.fileno(), bytes(content)[:2000])
    if len(content) > 8:
        os.kill(os.getpid(), signal.SIGKILL)


@DATASETS.register_module(force=True)
class Points(Dataset):
    """Points with random noise; one may fail, kill its worker or never come, all may be large."""

    def __init__(
        self,
        num: int = 22,
        fails: int = -1,
        dies: int = -1,
        dies_sending: int = -1,
        hangs: int = -1,
        weight: int = 0,
        classes: tuple[str, ...] = ("a", "b"),
    ) -> None:
        self.metainfo = {"classes": tuple(classes)}
        self.inputs = torch.randn(num, 4, generator=torch.Generator().manual_seed(0))
        self.fails, self.dies, self.hangs, self.weight = fails, dies, hangs, weight
        self.dies_sending = dies_sending

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.fails:
            raise FileNotFoundError(f"{index}.jpg is gone")
        if index == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.dies_sending:
            time.sleep(0.3)  # all that came before has been taken, and the reader waits
            Connection._send = send_half
        if index == self.hangs:
            time.sleep(1000)
        noise = random.random() + np.random.rand() + torch.rand(4)
        return {
            "inputs": self.inputs[index] + 0.1 * noise,
            "labels": int(self.inputs[index, 0] > 0),
        } | ({"text": "x" * self.weight} if self.weight else {})

    def get_data_info(self, index: int) -> dict[str, str]:
        return {"img_path": f"images/{index}.jpg"}


@METRICS.register_module(force=True)
class Accuracy(BaseMetric):
    """Share of right answers; notes how many there were."""

    counts: list[int] = []

    def process(self, data_batch: Any, data_samples: list) -> None:
        self.results += [found == expected for found, expected in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        Accuracy.counts.append(len(results))
        return {"accuracy": sum(results) / len(results)}


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends this process and its data workers a signal at an iteration, or in a validation.

    As a terminal or a cluster does that signals a whole group.
    """

    def __init__(self, at: int, number: int, in_validation: bool = False) -> None:
        self.at, self.number, self.in_validation = at, number, in_validation

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter == self.at and not self.in_validation:
            self.send()

    def after_val_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if runner.iter == self.at and self.in_validation and not batch_idx:
            self.send()

    def send(self) -> None:
        for worker in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):  # one that has just ended
                os.kill(worker.pid, self.number)
        os.kill(os.getpid(), self.number)


def config(work_dir: Path, max_iters: int = 8, **changes: Any) -> Config:
    """Make the config; ``changes`` are dotted keys with ``__`` for the dots."""
    loader = {
        "dataset": {"type": "Points"},
        "batch_size": 4,
        "num_workers": 0,
        "collate_fn": {"type": "default_collate"},
    }
    cfg = Config(
        {
            "model": {"type": "Net"},
            "work_dir": str(work_dir),
            "experiment_name": uuid.uuid4().hex,
            "train_dataloader": {**loader, "sampler": {"type": "mmbeit3.InfiniteSampler"}},
            "train_cfg": {
                "type": "mmbeit3.TrainLoop",
                "max_iters": max_iters,
                "val_interval": 4,
            },
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.05}},
            "param_scheduler": [{"type": "LinearLR", "by_epoch": False, "end": 6}],
            "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
            "val_cfg": {},
            "val_evaluator": {"type": "Accuracy"},
            "custom_hooks": [{"type": "mmbeit3.EMAHook", "momentum": 0.1}],
            "default_hooks": {
                "checkpoint": {
                    "type": "mmbeit3.CheckpointHook",
                    "by_epoch": False,
                    "interval": 2,
                    "max_keep_ckpts": 3,
                    "save_best": "accuracy",
                    "rule": "greater",
                },
                "logger": {"type": "LoggerHook", "interval": 1, "log_metric_by_epoch": False},
            },
            "log_processor": {"by_epoch": False},
            "visualizer": None,
        }
    )
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in changes.items()})
    return cfg
