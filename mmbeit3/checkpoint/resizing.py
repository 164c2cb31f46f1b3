"""Positions and patch kernels of one size made to fit another."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_position_embedding(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubically resize positions, as the released BEiT-3 code does (no antialiasing).

    Args:
        grid (Tensor): (1, H, W, C) positions.
        size (tuple[int, int]): Wanted (height, width) in tokens.

    Returns:
        Tensor: (1, height * width, C), row-major, in the dtype of ``grid``; half precision is
        widened to float32 for the computation.
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


def tile_position_embedding(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat positions over a larger grid, cut off at its right and bottom.

    Where the table is as large as an attention window, every window sees the whole of it, as in
    pretraining (arXiv 2311.05613; SAM 2, SAM 3 and PE tile theirs).

    Args:
        grid (Tensor): (1, H, W, C) positions.
        size (tuple[int, int]): Wanted (height, width) in tokens.

    Returns:
        Tensor: (1, height * width, C), row-major.
    """
    height, width = size
    times = (1, math.ceil(height / grid.shape[1]), math.ceil(width / grid.shape[2]), 1)
    return grid.repeat(times)[:, :height, :width].flatten(1, 2)


def resize_patch_kernel(kernel: Tensor, patch_size: int) -> Tensor:
    """Fit the patch embedding to patches of another size, by FlexiViT's pseudo-inverse resize.

    A token of an enlarged patch is then the token of the patch itself; of a reduced patch it is
    the nearest one in the least-squares sense (arXiv 2212.08013, section 3.4). Plain interpolation
    of the kernel would change the tokens' scale with the number of pixels.

    Args:
        kernel (Tensor): (C, in_channels, P, P) weights.
        patch_size (int): Wanted side of a patch in pixels.

    Returns:
        Tensor: (C, in_channels, patch_size, patch_size), in the dtype of ``kernel``; half
        precision is widened to float32 for the computation.
    """
    from timm.layers import resample_patch_embed  # brings torchvision: `mmbeit3 info` is faster

    return resample_patch_embed(kernel.float(), [patch_size, patch_size]).to(kernel.dtype)
