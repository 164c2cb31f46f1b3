"""Images to tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.utils import InputError


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width C of a token.
        patch_size (int): Side of a patch in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, C, ceil(H / patch_size), ceil(W / patch_size))."""
        if not torch.jit.is_tracing() and x.shape[1] != self.proj.in_channels:
            raise InputError(
                f"images have {x.shape[1]} channels, and the tower takes "
                f"{self.proj.in_channels}: set model.backbone.in_channels={x.shape[1]}, or load "
                "other bands"
            )
        pad_h, pad_w = (-size % self.patch_size for size in x.shape[-2:])
        if torch.jit.is_tracing() or pad_h or pad_w:
            x = F.pad(x, (0, pad_w, 0, pad_h))
        return self.proj(x)
