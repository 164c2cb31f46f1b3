"""Training steps of a config's model on tensors without content, in seconds and in no memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
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
from mmbeit3.analysis.image_text_batch import expect_masked_words, make_image_text_batch
from mmbeit3.analysis.live_memory import GRADIENTS, STATES, TEMPORARIES, Change, LiveMemory
from mmbeit3.analysis.training_targets import decisions, make_samples
from mmbeit3.checkpoint.strict_loading import num_classes
from mmbeit3.models.data_preprocessors import ImageTextPreprocessor
from mmbeit3.ops.cpu.processor import bfloat16_obstacle
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_layers


@dataclass(frozen=True)
class Step:
    """Memory of one training step, without weights and optimizer states.

    Attributes:
        changes: What came and went in forward and backward pass, in order.
        forward: Number of them in the forward pass.
    """

    changes: list[Change]
    forward: int


@dataclass(frozen=True)
class ModelSizes:
    """Bytes of a model and its optimizer, whole.

    Attributes:
        parameters: By part.
        trained: Of these, what is trained; as much as the gradients.
        buffers: Of all parts, and all of an image tokenizer.
        states: What the optimizer keeps.
        stepping: What a step of the optimizer takes for a while.
        layers: The parts that are repeated layers, the unit that sharding gathers.
    """

    parameters: dict[str, int]
    trained: dict[str, int]
    buffers: int
    states: float
    stepping: float
    layers: tuple[str, ...]


def tower_name(model: Mapping[str, Any]) -> str | None:
    """What the towers are called in the config of a model; None of a model that has none."""
    return next((name for name in ("backbone", "encoder") if name in model), None)


class Simulation:
    """A model without content and its training steps.

    Args:
        cfg (Config): The config.
        device (str): "cuda" or "cpu": whose rules hold.

    Attributes:
        model (nn.Module): The model.
    """

    def __init__(self, cfg: Config, device: str) -> None:
        if cfg.model.get("backbone", {}).get("lora"):
            raise InputError("the memory plan does not know LoRA: leave model.backbone.lora out")
        self.cfg, self.device = cfg, device
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        as_it_is = patch.object(nn.init, "_no_grad_trunc_normal_", lambda tensor, *_, **__: tensor)
        with self._scope(), self._fake, as_it_is:  # torch draws again until all fits
            self.model = MODELS.build(cfg.model).train()
        self._towers = getattr(self.model, tower_name(cfg.model) or "backbone")
        # Beside the model, without gradients: what gives a pretraining its codes.
        self._beside = getattr(self.model, "image_tokenizer", None) or nn.Module()
        if getattr(self.model, "class_embeddings", None) is not None:
            self.model.class_embeddings.leave_unnamed(num_classes(self.model))
        self._layers = tuple(find_layers(self.model))
        self._memory = LiveMemory(())
        self._outer: list[str] = []  # parts around the module that runs
        for name, module in self.model.named_modules():
            if name:
                self._watch(module, self._part_of(name))
        for module in self._beside.modules():
            self._watch(module, "image_tokenizer")
        for name, param in self.model.named_parameters():
            if param.requires_grad:
                param.register_post_accumulate_grad_hook(
                    partial(self._note_grad, self._part_of(name))
                )

    def step(self, batch_size: int, image_size: tuple[int, int], with_cp: bool) -> Step:
        """Run forward and backward pass.

        Args:
            batch_size (int): Images.
            image_size (tuple[int, int]): Their height and width in pixels.
            with_cp (bool): Whether layers of the backbone are computed again.
        """
        model, dtype = self.model, computing_type(self.cfg, self.device)
        for module in self._towers.modules():
            if hasattr(module, "with_cp"):
                module.with_cp = with_cp
        half = nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)
        with self._running() as memory, decisions(model, batch_size, memory):
            with memory.belongs("input batch"):
                batch = self._batch(batch_size, image_size)
            expect_masked_words(model, batch, memory)
            with half:
                loss, _ = model.parse_losses(model(**batch, mode="loss"))
            forward = len(memory.changes)
            with memory.belongs("backward pass", TEMPORARIES):
                loss.backward()
            changes = list(memory.changes)
        return Step(changes, forward)

    def sizes(self) -> ModelSizes:
        """Sizes of model and optimizer."""
        parameters: Counter[str] = Counter()
        trained: Counter[str] = Counter()
        for name, param in self.model.named_parameters():
            parameters[self._part_of(name)] += param.nbytes
            trained[self._part_of(name)] += param.nbytes * param.requires_grad
        beside = chain(self._beside.parameters(), self._beside.buffers())
        buffers = sum(buffer.nbytes for buffer in chain(self.model.buffers(), beside))
        states, stepping = self._optimizer_sizes()
        return ModelSizes(dict(parameters), dict(trained), buffers, states, stepping, self._layers)

    def _batch(self, batch_size: int, image_size: tuple[int, int]) -> dict[str, Any]:
        """What the model's data preprocessor would give it."""
        if isinstance(self.model.data_preprocessor, ImageTextPreprocessor):
            dataset = self.cfg.train_dataloader.dataset
            return make_image_text_batch(self.model, dataset, batch_size, image_size)
        embedding = getattr(self._towers, "patch_embed", None)
        channels = getattr(getattr(embedding, "proj", None), "in_channels", 3)
        samples = make_samples(self.model, batch_size, image_size)
        return dict(inputs=torch.randn(batch_size, channels, *image_size), data_samples=samples)

    def _optimizer_sizes(self) -> tuple[float, float]:
        """Bytes of the optimizer's states, and of what a step takes besides."""
        optimizer = self._build_optimizer()
        with self._running() as memory:
            for group in optimizer.param_groups:
                if self.device == "cuda" and group.get("foreach", False) is None:
                    group["foreach"] = not group.get("fused")  # torch's choice on a GPU
                for param in group["params"]:
                    param.grad = torch.empty_like(param)
            with memory.belongs("optimizer", STATES):
                start = len(memory.changes)
                optimizer.step()
                second = len(memory.changes)
                optimizer.step()
            sizes = [change.size for change in memory.changes]
        return sum(sizes[start:second]), max(accumulate(sizes[second:], initial=0))

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

    @contextmanager
    def _running(self) -> Iterator[LiveMemory]:
        """Count what a run of the model makes and frees; at the end the gradients go."""
        modules = self.model, self._beside
        known = chain.from_iterable((*m.parameters(), *m.buffers()) for m in modules)
        self._memory = memory = LiveMemory(known)
        try:
            with self._scope(), self._fake, rules_of(self.device, memory), memory:
                yield memory
        finally:
            self.model.zero_grad(set_to_none=True)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        with DefaultScope.overwrite_default_scope(self.cfg.get("default_scope", "mmdet")):
            yield

    def _part_of(self, name: str) -> str:
        """Part of the model that a parameter or module belongs to: ``backbone.layers.3``."""
        layer = next((layer for layer in self._layers if f"{name}.".startswith(f"{layer}.")), None)
        names = name.split(".")
        return layer or ".".join(names[: 3 if names[2:] and names[2].isdigit() else 2])

    def _watch(self, module: nn.Module, part: str) -> None:
        module.register_forward_pre_hook(partial(self._enter, part))
        module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, part: str, *_: Any) -> None:
        self._outer.append(self._memory.part)
        self._memory.part = part

    def _leave(self, *_: Any) -> None:
        self._memory.part = self._outer.pop()

    def _note_grad(self, part: str, param: Tensor) -> None:
        self._memory.move(param.grad, part, GRADIENTS)


def computing_type(cfg: Config, device: str) -> torch.dtype:
    """The type that matrices are multiplied in: that of mixed precision, else float32."""
    wrapper = cfg.get("optim_wrapper") or {}
    if "AmpOptimWrapper" not in str(wrapper.get("type")):
        return torch.float32
    default = "bfloat16" if str(wrapper.get("type")).startswith("mmbeit3.") else "float16"
    dtype = getattr(torch, wrapper.get("dtype") or default)
    if device == "cpu" and (dtype != torch.bfloat16 or bfloat16_obstacle() is not None):
        return torch.float32
    return dtype
