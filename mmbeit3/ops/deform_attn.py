"""Multi-scale deformable attention in plain torch, for every device and floating-point type."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.utils import InputError


def multi_scale_deformable_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum up bilinear samples of several feature maps, weighted, for each query and head.

    The core of equation 3 of `Deformable DETR <https://arxiv.org/abs/2010.04159>`_. Outside a map
    its value is zero. Half precision is sampled and summed in float32, and the locations keep
    their own type: half would place them whole pixels off on large maps.

    Args:
        value (Tensor): (B, sum of H * W over the levels, heads, dim), the maps level after level,
            each row by row.
        spatial_shapes (Tensor | Sequence[tuple[int, int]]): (levels, 2), (H, W) of each map.
        sampling_locations (Tensor): (B, Q, heads, levels, points, 2) as (x, y), where (0, 0) is
            the outer corner of a map's first pixel and (1, 1) that of its last.
        attention_weights (Tensor): (B, Q, heads, levels, points).

    Returns:
        Tensor: (B, Q, heads * dim) in the type of ``value``.

    Raises:
        InputError: The shapes do not fit together.
    """
    shapes = [(int(height), int(width)) for height, width in _as_list(spatial_shapes)]
    _check_shapes(value, shapes, sampling_locations, attention_weights)
    batch, _, heads, dim = value.shape
    queries = sampling_locations.shape[1]
    dtype = torch.promote_types(value.dtype, torch.float32)
    # grid_sample counts from -1 to 1.
    grids = sampling_locations.to(dtype) * 2 - 1
    weights = attention_weights.to(dtype)

    maps = value.split([height * width for height, width in shapes], dim=1)
    output = grids.new_zeros((batch * heads, dim, queries))
    for level, (height, width) in enumerate(shapes):
        # (B, H * W, heads, dim) -> (B * heads, dim, H, W)
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, dim, height, width)
        # (B, Q, heads, points, 2) -> (B * heads, Q, points, 2)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        # (B * heads, dim, Q, points)
        samples = F.grid_sample(
            image.to(dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        output = output + (samples * weight[:, None]).sum(dim=-1)
    output = output.view(batch, heads * dim, queries).transpose(1, 2)
    return output.to(value.dtype).contiguous()


def _as_list(spatial_shapes: Tensor | Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    return spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes


def _check_shapes(
    value: Tensor,
    shapes: list[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    keys = sum(height * width for height, width in shapes)
    if value.ndim != 4 or value.shape[1] != keys:
        raise InputError(
            f"value has shape {tuple(value.shape)}; expected (B, {keys}, heads, dim) "
            f"for maps of the sizes {shapes}."
        )
    batch, _, heads, _ = value.shape
    found, weights = tuple(sampling_locations.shape), tuple(attention_weights.shape)
    fits = len(found) == 6 and found[-1] == 2 and found[:-1] == weights
    if not fits or (found[0], found[2], found[3]) != (batch, heads, len(shapes)):
        raise InputError(
            f"sampling_locations has shape {found} and attention_weights {weights}; expected "
            f"({batch}, Q, {heads}, {len(shapes)}, points, 2) and the same without the 2."
        )
