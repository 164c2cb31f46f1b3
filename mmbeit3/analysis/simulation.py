"""Training steps of a config's model on tensors without content, in seconds and in no memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmbeit3.analysis.device_rules import rules_of
from mmbeit3.analysis.live_memory import GRADIENTS, STATES, TEMPORARIES, Change, LiveMemory
from mmbeit3.analysis.training_pass import check_model, training_loss
from mmbeit3.registry import MODELS
from mmbeit3.utils.towers import find_layers


@dataclass(frozen=True)
class Step:
    """Memory of one training step, without weights and optimiser states.

    Attributes:
        changes: What came and went in forward and backward pass, in order.
        forward: Number of them in the forward pass.
        places: By number of changes, where the backward pass had come to.
    """

    changes: list[Change]
    forward: int
    places: dict[int, str]


@dataclass(frozen=True)
class ModelSizes:
    """Bytes of a model and its optimiser, whole.

    Attributes:
        parameters: By part.
        trained: Of these, what is trained; as much as the gradients.
        buffers: Of all parts.
        states: What the optimiser keeps.
        stepping: What a step of the optimiser takes for a while.
        layers: The parts that are repeated layers, the unit that sharding gathers.
    """

    parameters: dict[str, int]
    trained: dict[str, int]
    buffers: int
    states: int
    stepping: int
    layers: tuple[str, ...]


class Simulation:
    """A model without content and its training steps.

    Args:
        cfg (Config): The config.
        device (str): "cuda" or "cpu": whose rules hold.

    Attributes:
        model (nn.Module): The model.
    """

    def __init__(self, cfg: Config, device: str) -> None:
        self.cfg, self.device = cfg, device
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        as_it_is = patch.object(nn.init, "_no_grad_trunc_normal_", lambda tensor, *_, **__: tensor)
        with self._scope(), self._fake, as_it_is:  # torch draws again until all fits
            self.model = MODELS.build(cfg.model)
        check_model(self.model)
        self._layers = tuple(find_layers(self.model))
        self.model.train()
        self._watch_parts()
        self._memory = LiveMemory(self._tensors())
        self._outer: list[str] = []  # parts around the module that runs
        self._places: dict[int, str] = {}

    def step(self, batch_size: int, image_size: tuple[int, int], with_cp: bool) -> Step:
        """Run forward and backward pass.

        Args:
            batch_size (int): Images.
            image_size (tuple[int, int]): Their height and width in pixels.
            with_cp (bool): Whether layers of the backbone are computed again.
        """
        if hasattr(self.model.backbone, "with_cp"):
            self.model.backbone.with_cp = with_cp
        self.model.zero_grad(set_to_none=True)
        self._memory, self._places = LiveMemory(self._tensors()), {}
        memory = self._memory
        with self._running(memory), self._notes_gradients(memory):
            with memory.belongs("input batch"):
                images = torch.randn(batch_size, 3, *image_size)
            with self._autocast():
                loss = training_loss(self.model, images, memory)
            forward = len(memory.changes)
            with memory.belongs("backward pass", TEMPORARIES):
                loss.backward()
            changes, places = list(memory.changes), dict(self._places)
        self.model.zero_grad(set_to_none=True)
        return Step(changes, forward, places)

    def sizes(self) -> ModelSizes:
        """Sizes of model and optimiser."""
        states, stepping = self._optimiser()
        parameters: Counter[str] = Counter()
        trained: Counter[str] = Counter()
        for name, param in self.model.named_parameters():
            parameters[self._part_of(name)] += param.nbytes
            trained[self._part_of(name)] += param.nbytes * param.requires_grad
        buffers = sum(buffer.nbytes for buffer in self.model.buffers())
        return ModelSizes(dict(parameters), dict(trained), buffers, states, stepping, self._layers)

    def _optimiser(self) -> tuple[int, int]:
        """Bytes of the optimiser's states, and of what a step takes beside them."""
        optimizer = self._build_optimizer()
        memory = LiveMemory(self._tensors())
        with self._running(memory):
            for group in optimizer.param_groups:
                if self.device == "cuda" and group.get("foreach", False) is None:
                    group["foreach"] = not group.get("fused")  # torch's choice on a GPU
                for param in group["params"]:
                    param.grad = torch.empty_like(param)
            with memory.belongs("optimiser", STATES):
                start = len(memory.changes)
                optimizer.step()
                states = sum(change.size for change in memory.changes[start:])
                start = len(memory.changes)
                optimizer.step()
        stepping = highest(memory.changes[start:])
        self.model.zero_grad(set_to_none=True)
        return states, stepping

    def _tensors(self) -> Iterator[Tensor]:
        return chain(self.model.parameters(), self.model.buffers())

    @contextmanager
    def _running(self, memory: LiveMemory) -> Iterator[None]:
        with self._scope(), self._fake, rules_of(self.device, memory), memory:
            yield

    @contextmanager
    def _scope(self) -> Iterator[None]:
        with DefaultScope.overwrite_default_scope(self.cfg.get("default_scope", "mmdet")):
            yield

    def _autocast(self) -> AbstractContextManager:
        dtype = computing_type(self.cfg, self.device)
        return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)

    def _build_optimizer(self) -> torch.optim.Optimizer:
        wrapper = dict(self.cfg.optim_wrapper, type="OptimWrapper")
        for key in ("dtype", "loss_scale", "use_fsdp", "accumulative_counts"):
            wrapper.pop(key, None)
        logging.disable(logging.INFO)  # the table of its groups
        try:
            with self._scope(), self._fake:
                return build_optim_wrapper(self.model, wrapper).optimizer
        finally:
            logging.disable(logging.NOTSET)

    def _part_of(self, name: str) -> str:
        """Part of the model that a parameter or module belongs to: ``backbone.layers.3``."""
        layer = next((layer for layer in self._layers if f"{name}.".startswith(f"{layer}.")), None)
        names = name.split(".")
        return layer or ".".join(names[: 3 if names[2:] and names[2].isdigit() else 2])

    def _watch_parts(self) -> None:
        for name, module in self.model.named_modules():
            if name:
                part = self._part_of(name)
                module.register_forward_pre_hook(self._entering(part))
                module.register_forward_hook(self._leaving(part), always_call=True)

    def _entering(self, part: str) -> Callable[[nn.Module, tuple], None]:
        def hook(module: nn.Module, args: tuple) -> None:
            self._outer.append(self._memory.part)
            self._memory.part = part

        return hook

    def _leaving(self, part: str) -> Callable[[nn.Module, tuple, Any], None]:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            self._memory.part = self._outer.pop()
            if isinstance(output, Tensor) and output.requires_grad:
                output.register_hook(self._arriving(part))

        return hook

    def _arriving(self, part: str) -> Callable[[Tensor], None]:
        memory, places = self._memory, self._places

        def hook(grad: Tensor) -> None:
            places[len(memory.changes)] = part

        return hook

    @contextmanager
    def _notes_gradients(self, memory: LiveMemory) -> Iterator[None]:
        def note(name: str) -> Callable[[nn.Parameter], None]:
            return lambda param: memory.move(param.grad, self._part_of(name), GRADIENTS)

        handles = [
            param.register_post_accumulate_grad_hook(note(name))
            for name, param in self.model.named_parameters()
            if param.requires_grad
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def highest(changes: list[Change]) -> int:
    """The highest sum of the first changes, at least 0."""
    return max(accumulate((change.size for change in changes), initial=0))


def computing_type(cfg: Config, device: str) -> torch.dtype:
    """The type that matrices are multiplied in: that of mixed precision, else float32."""
    wrapper = cfg.get("optim_wrapper") or {}
    if device == "cpu" or "AmpOptimWrapper" not in str(wrapper.get("type")):
        return torch.float32
    return getattr(torch, wrapper.get("dtype") or "float16")
