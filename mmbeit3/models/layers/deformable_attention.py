"""Deformable attention as a module, and the places on maps that it samples at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmbeit3.ops import multi_scale_deformable_attn
from mmbeit3.utils import InputError


class Grid(NamedTuple):
    """A map of ``height`` x ``width`` cells, each a square of ``stride`` pixels of the image.

    The last row and column may reach past the image: maps of one image then cover areas of
    different size, and only pixels are a measure that they share.
    """

    height: int
    width: int
    stride: int

    def centers(self, device: torch.device) -> Tensor:
        """Center (x, y) of every cell in pixels: (height * width, 2) float32, row by row."""
        x, y = (
            (torch.arange(count, dtype=torch.float32, device=device) + 0.5) * self.stride
            for count in (self.width, self.height)
        )
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


def reference_points(queries: Sequence[Grid], maps: Sequence[Grid], device: torch.device) -> Tensor:
    """Where the cells of ``queries`` lie on each of ``maps``.

    Args:
        queries (Sequence[Grid]): Maps whose cells ask, one map after the other.
        maps (Sequence[Grid]): Maps that are sampled.
        device (torch.device): Where to put the result.

    Returns:
        Tensor: (Q, levels, 2) float32 as (x, y); (0, 0) is the outer corner of a map's first
        cell and (1, 1) that of its last.
    """
    centers = torch.cat([grid.centers(device) for grid in queries])
    extents = [(grid.width * grid.stride, grid.height * grid.stride) for grid in maps]
    return centers[:, None] / _table(extents, centers)


def _table(rows: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """Sizes (rows, 2) as a tensor of the type of ``like``, which a trace keeps as sizes."""
    if torch.jit.is_tracing():
        return torch.stack([torch.stack([torch.as_tensor(n) for n in row]) for row in rows]).to(
            like
        )
    # new_tensor() would wait for a GPU
    return torch.tensor(rows, dtype=like.dtype).to(like.device, non_blocking=True)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention: equation 3 of `arXiv 2010.04159`_ with its projections.

    Each query looks at ``num_points`` places of every map for each head. The places are offsets,
    in cells of the map, from the query's own place. They start as in the paper: head h looks in
    the direction of the angle 2 pi h / heads, point k at the distance k, all weighed alike.

    .. _arXiv 2010.04159: https://arxiv.org/abs/2010.04159

    Args:
        embed_dims (int): Width C of queries and values.
        num_heads (int): Number of heads.
        num_levels (int): Number of maps.
        num_points (int): Places that a head samples of each map. Defaults to 4.
        value_ratio (float): Width of the projected values as a part of C, mmcv's
            ``value_proj_ratio``. Defaults to 1.

    Raises:
        InputError: The heads do not divide C and the values' width.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int = 4,
        value_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        value_dims = int(embed_dims * value_ratio)
        if not value_dims or embed_dims % num_heads or value_dims % num_heads:
            raise InputError(
                f"{num_heads} heads of deformable attention cannot share {embed_dims} channels "
                f"and, with a ratio of {value_ratio}, {value_dims} channels of values; choose a "
                "number of heads that divides both."
            )
        self.num_heads = num_heads
        self.places = (num_heads, num_levels, num_points)
        samples = math.prod(self.places)
        self.sampling_offsets = nn.Linear(embed_dims, 2 * samples)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections (Xavier, uniform) and put the places where they start."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        heads, _, points = self.places
        angles = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions /= directions.abs().amax(-1, keepdim=True)  # onto the unit square
        distances = torch.arange(1, points + 1, dtype=torch.float32)
        start = directions[:, None, None] * distances[:, None]  # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.view(*self.places, 2).copy_(start)

    def forward(self, query: Tensor, value: Tensor, points: Tensor, maps: Sequence[Grid]) -> Tensor:
        """Gather from the maps around each query's place.

        Args:
            query (Tensor): (B, Q, C).
            value (Tensor): (B, K, C), the cells of the maps one map after the other.
            points (Tensor): (Q, levels, 2), the queries' places from :func:`reference_points`.
            maps (Sequence[Grid]): The maps.

        Returns:
            Tensor: (B, Q, C).
        """
        # Not by unflatten(), for which ONNX has no operator.
        size, heads = query.shape[:2], self.num_heads
        value = self.value_proj(value)
        value = value.view(*value.shape[:2], heads, -1)
        weights = self.attention_weights(query).view(*size, heads, -1).softmax(-1)
        offsets = self.sampling_offsets(query).view(*size, *self.places, 2)
        sizes = _table([(grid.width, grid.height) for grid in maps], points)
        # Type promotion: the locations are float32 (or float64) whatever the offsets are.
        locations = points[:, None, :, None] + offsets / sizes[:, None]
        sampled = multi_scale_deformable_attn(
            value,
            [(grid.height, grid.width) for grid in maps],
            locations,
            weights.view(*size, *self.places),
        )
        return self.output_proj(sampled)
