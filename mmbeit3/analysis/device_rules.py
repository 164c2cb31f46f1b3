"""Lets a run without content behave as on a GPU, or as on the CPU.

Tensors without content are on the CPU, since torch differentiates none on a GPU that is not there.
What differs on a GPU and matters for memory is done here: how attention is computed, and how
deformable attention samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from mmbeit3.analysis.live_memory import CHECKPOINTED, LiveMemory
from mmbeit3.models.backbones import beit3
from mmbeit3.models.layers import attention, token_layout
from mmbeit3.models.layers.checkpointing import recomputed
from mmbeit3.models.multimodal import multiway, text
from mmbeit3.ops import deform_attn
from mmbeit3.ops.cpu.autocast import rules_of_a_gpu


@contextmanager
def rules_of(device: str, memory: LiveMemory) -> Iterator[None]:
    """Within, a run that ``memory`` watches follows the rules of a device.

    Args:
        device (str): "cuda" or "cpu".
        memory (LiveMemory): Told what checkpointing keeps.
    """
    with ExitStack() as stack:
        # A kernel that writes the sizes as content.
        stack.enter_context(patch.object(torch, "_shape_as_tensor", _sizes))
        for module in (beit3, multiway, text):
            stack.enter_context(patch.object(module, "recomputed", _recomputed(memory)))
        # One process of several may ask alone: nothing is exchanged.
        stack.enter_context(patch.object(torch.distributed, "is_initialized", lambda: False))
        stack.enter_context(rules_of_a_gpu())  # of autocast, as AmpOptimWrapper has it on the CPU
        if device == "cuda":
            stack.enter_context(patch.object(attention, "is_tiled", lambda *_: False))
            by_grids = deform_attn._attend_by_grids
            stack.enter_context(patch.object(deform_attn, "_attend_by_rows", by_grids))
        # The layouts of windows that are kept must be neither with content here nor without later.
        token_layout.kept_layout.cache_clear()
        stack.callback(token_layout.kept_layout.cache_clear)
        yield


def _sizes(tensor: Tensor) -> Tensor:
    return torch.tensor(tensor.shape)


def _recomputed(memory: LiveMemory) -> Callable[..., Tensor]:
    """What stands for ``mmbeit3.models.layers.checkpointing.recomputed``.

    It marks what is kept. fairscale's copies to the CPU could not be seen here, where all is there.
    """

    def run(module: nn.Module, *args: Any, offload: bool = False) -> Tensor:
        output = recomputed(module, *args)
        for arg in args:
            if isinstance(arg, Tensor) and arg.requires_grad:
                memory.move(arg, None, CHECKPOINTED)
        return output

    return run
