"""Learned absolute positions, resized to the grid of tokens at hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_position_embedding(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubically resize positions, as the released BEiT-3 code does (no antialiasing).

    Args:
        grid (Tensor): (1, H, W, C) positions.
        size (tuple[int, int]): Wanted (height, width) in tokens.

    Returns:
        Tensor: (1, height * width, C), row-major, in the dtype of ``grid``.
    """
    if tuple(grid.shape[1:3]) == tuple(size):
        return grid.flatten(1, 2)
    at_least_float32 = torch.promote_types(grid.dtype, torch.float32)
    resized = F.interpolate(
        grid.permute(0, 3, 1, 2).to(at_least_float32),
        size=size,
        mode="bicubic",
        align_corners=False,
    )
    return resized.flatten(2).transpose(1, 2).to(grid.dtype)
