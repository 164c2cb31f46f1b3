"""The plain ViT of BEiT v2's image tokenizers, with their names of weights."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from timm.models.beit import Block
from torch import Tensor, nn

EPS = 1e-6  # of every LN


class PatchProjection(nn.Module):
    """Patches to tokens, under the name that timm's patch embedding has.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width C of a token.
        patch_size (int): Side of a patch.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, in_channels, H, W) -> (B, patches, C)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class TokenizerViT(nn.Module):
    """Images, or maps of codes, to features of their patches.

    Args:
        arch (dict): Width, layers, heads and hidden width, as of
            :func:`mmbeit3.utils.archs.resolve_arch`.
        in_channels (int): Channels of what comes in.
        grid_size (tuple[int, int]): Rows and columns of patches.
        patch_size (int): Side of a patch; 1 of a map.
    """

    def __init__(
        self, arch: dict[str, int], in_channels: int, grid_size: tuple[int, int], patch_size: int
    ) -> None:
        super().__init__()
        dims = arch["embed_dims"]
        self.patch_embed = PatchProjection(in_channels, dims, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.pos_embed = nn.Parameter(torch.zeros(1, math.prod(grid_size) + 1, dims))
        options: dict[str, Any] = dict(
            qkv_bias=True,
            mlp_ratio=(arch["feedforward_channels"] + 0.5) / dims,  # timm cuts the product
            norm_layer=partial(nn.LayerNorm, eps=EPS),
        )
        self.blocks = nn.ModuleList(
            Block(dims, arch["num_heads"], **options) for _ in range(arch["num_layers"])
        )
        self.fc_norm = nn.LayerNorm(dims, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, in_channels, H, W) -> (B, patches, C), row by row."""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x[:, 1:])

    def init_weights(self) -> None:
        """Initialize as BEiT does (arXiv 2106.08254)."""
        for weight in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(weight, std=0.02)
        self.apply(init_linear)
        for depth, block in enumerate(self.blocks, 1):
            block.attn.proj.weight.data.div_(math.sqrt(2 * depth))
            block.mlp.fc2.weight.data.div_(math.sqrt(2 * depth))


def init_linear(module: nn.Module) -> None:
    """Draw a linear map from a truncated normal (std 0.02), its bias 0; leave other modules."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
