"""Floating-point operations of a tower: 2 for each multiply-add, norms and activations left out."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmbeit3.models import BEiT3


def tower_flops(model: BEiT3, height: int, width: int) -> int:
    """Operations of a forward pass of one image (H, W); ``model`` is on the device 'meta'."""
    x = torch.empty(1, 3, height, width, device="meta")
    # Attention is written out: the counter knows no fused kernel of the CPU's.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()
