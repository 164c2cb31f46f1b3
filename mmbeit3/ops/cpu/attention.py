"""Softmax attention in bfloat16 by products that are faster on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbeit3.ops.cpu.processor import bfloat16_obstacle

# Products by tiles take up to 20 times as long as torch's kernel where the processor lacks these.
TILES_PAY = bfloat16_obstacle() is None
# Scores that are held at once, in bytes: they stay in the cache between the two products.
_TILE_BYTES = 4 << 20


def is_tiled(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether :func:`attend_by_tiles` is faster, and has the gradient that is needed: none."""
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and TILES_PAY
        and not needs_grad
        and not torch.compiler.is_compiling()  # it would unroll the loops
    )


def attend_by_tiles(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """``scaled_dot_product_attention`` without mask and dropout, in bfloat16.

    torch's fused kernel for the CPU multiplies bfloat16 no faster than float32. Where the processor
    has instructions for bfloat16, two products by oneDNN tile by tile are 1.5 times as fast for
    4096 tokens. Scores are then rounded to bfloat16 before the softmax, which is computed in
    float32, as it is wherever attention is written out in half precision.

    Args:
        q (Tensor): (B, heads, N, dim).
        k (Tensor): (B, heads, M, dim).
        v (Tensor): (B, heads, M, dim of the values).
        scale (float, optional): Factor on the scores. Defaults to ``dim ** -0.5``.

    Returns:
        Tensor: (B, heads, N, dim of the values).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    shape = (*q.shape[:3], v.shape[-1])
    # In one piece each, or every product would copy its part.
    q, k, v = (x.contiguous().flatten(0, 1) for x in (q * scale, k, v))
    k = k.mT
    output = q.new_empty((*q.shape[:2], v.shape[-1]))
    # At least a head for each thread, then as many queries as fit, then further heads.
    row_bytes = max(k.shape[-1] * q.element_size(), 1)
    heads = torch.get_num_threads()
    rows = max(min(_TILE_BYTES // (row_bytes * heads), q.shape[1]), 1)
    heads = max(heads, _TILE_BYTES // (row_bytes * rows))
    for head in range(0, len(q), heads):
        of_heads = slice(head, head + heads)
        for row in range(0, q.shape[1], rows):
            tile = of_heads, slice(row, row + rows)
            scores = torch.bmm(q[tile], k[of_heads])
            output[tile] = torch.bmm(scores.softmax(-1), v[of_heads])
    return output.view(shape)
