"""What tower and pyramid tell each other in the ViT-Adapter (arXiv 2205.08534, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmbeit3.models.layers.deformable_attention import DeformableAttention, Grid
from mmbeit3.models.layers.spatial_prior import init_conv

EPS = 1e-6  # of the adapter's LNs, as in ViT-Adapter's code


class Injector(nn.Module):
    """Gives the tower's tokens what they ask of the pyramid: equation 2 of the paper.

    Args:
        embed_dims (int): Width C.
        num_heads (int): Heads of the deformable attention.
        num_levels (int): Maps of the pyramid.
        num_points (int): Places that a head samples of each map.
        value_ratio (float): See :class:`DeformableAttention`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, num_levels: int, num_points: int, value_ratio: float
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(embed_dims, eps=EPS)
        self.value_norm = nn.LayerNorm(embed_dims, eps=EPS)
        self.attn = DeformableAttention(embed_dims, num_heads, num_levels, num_points, value_ratio)
        # Zero: at the start of training the tower computes what it did in pretraining.
        self.gamma = nn.Parameter(torch.zeros(embed_dims))

    def forward(
        self, tokens: Tensor, pyramid: Tensor, points: Tensor, maps: Sequence[Grid]
    ) -> Tensor:
        """``tokens`` (B, N, C) and ``pyramid`` (B, P, C) -> (B, N, C)."""
        asked = self.attn(self.query_norm(tokens), self.value_norm(pyramid), points, maps)
        return tokens + self.gamma * asked


class Extractor(nn.Module):
    """Gives the pyramid what it asks of the tower's map: equations 3 and 4 of the paper.

    Args:
        embed_dims (int): Width C.
        num_heads (int): Heads of the deformable attention.
        num_points (int): Places that a head samples of the tower's map.
        value_ratio (float): See :class:`DeformableAttention`.
        ffn_ratio (float): Hidden width of the FFN as a part of C.
        drop_path_rate (float): Probability of dropping the FFN for a sample.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_points: int,
        value_ratio: float,
        ffn_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(embed_dims, eps=EPS)
        self.value_norm = nn.LayerNorm(embed_dims, eps=EPS)
        self.attn = DeformableAttention(embed_dims, num_heads, 1, num_points, value_ratio)
        self.ffn_norm = nn.LayerNorm(embed_dims, eps=EPS)
        self.ffn = ConvFFN(embed_dims, int(embed_dims * ffn_ratio))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(
        self, pyramid: Tensor, tokens: Tensor, points: Tensor, tower: Grid, maps: Sequence[Grid]
    ) -> Tensor:
        """``pyramid`` (B, P, C), the cells of ``maps``; ``tokens`` (B, N, C), row by row.

        Returns:
            Tensor: (B, P, C).
        """
        query, value = self.query_norm(pyramid), self.value_norm(tokens)
        pyramid = pyramid + self.attn(query, value, points, [tower])
        return pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), maps))


class ConvFFN(nn.Module):
    """Feed-forward network with a depth-wise 3x3 convolution on each map of the pyramid.

    Args:
        embed_dims (int): Width C.
        hidden_dims (int): Hidden width.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.conv = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)
        for linear in (self.fc1, self.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        init_conv(self.conv)

    def forward(self, x: Tensor, maps: Sequence[Grid]) -> Tensor:
        """``x`` (B, P, C) -> (B, P, C)."""
        x = [self.conv(image) for image in as_maps(self.fc1(x), maps)]
        return self.fc2(self.act(as_tokens(x)))


def as_tokens(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, H, W) to tokens (B, P, C), row by row and one map after the other."""
    return torch.cat([x.flatten(2) for x in maps], 2).transpose(1, 2)


def as_maps(tokens: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
    """Undo :func:`as_tokens`."""
    maps, start = [], 0
    for grid in grids:  # by slices, which a trace keeps for grids of other sizes
        part = tokens[:, start : (start := start + grid.height * grid.width)].transpose(1, 2)
        maps.append(part.reshape(*part.shape[:2], grid.height, grid.width))
    return maps
