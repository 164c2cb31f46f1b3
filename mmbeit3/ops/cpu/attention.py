"""Softmax attention in bfloat16 by products that are faster on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmbeit3.ops.cpu.processor import bfloat16_obstacle, has_amx

# Products by tiles take up to 20 times as long as torch's kernel where the processor lacks these.
TILES_PAY = bfloat16_obstacle() is None
# With AMX torch's kernel is faster than tiles; its gradient, for windows, slower than theirs.
TORCH_PAYS = has_amx()
# Scores that are held at once, in bytes: they stay in the cache between the two products.
_TILE_BYTES = 4 << 20


def is_tiled(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether :func:`attend_by_tiles` is faster."""
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and TILES_PAY
        and (_needs_grad(q, k, v) or not _fits_torch(q, v))
        and not torch.compiler.is_compiling()  # it would unroll the loops
    )


def attend_by_tiles(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """``scaled_dot_product_attention`` without dropout, in bfloat16, and its gradient.

    torch's fused kernel for the CPU multiplies bfloat16 no faster than float32 unless the processor
    has AMX, and its gradient slower. Where the processor has instructions for bfloat16, products by
    oneDNN tile by tile are 1.5 times as fast for 4096 tokens; with AMX the output is torch's, and
    the gradient by tiles. Scores of tiles are rounded to bfloat16 before the softmax, which
    is computed in float32, as it is wherever attention is written out in half precision. Scores are
    never held whole: the gradient computes them again.

    Args:
        q (Tensor): (B, heads, N, dim).
        k (Tensor): (B, heads, M, dim).
        v (Tensor): (B, heads, M, dim of the values).
        mask (Tensor, optional): Of a shape that expands to (B, heads, N, M); bool, True where a
            query may see a key, one at least, or floating point, added to the scores, without
            gradient. Defaults to None, all see all.
        scale (float, optional): Factor on the scores. Defaults to ``dim ** -0.5``.

    Returns:
        Tensor: (B, heads, N, dim of the values).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        mask = mask.to(q.dtype).reshape((1,) * (4 - mask.ndim) + mask.shape)
        mask = mask.expand(*q.shape[:2], -1, -1).flatten(0, 1)
    # In one piece each, or every product would copy its part.
    flat = [x.contiguous().flatten(0, 1) for x in (q * scale, k, v)]
    return _Tiles.apply(*flat, mask).unflatten(0, q.shape[:2])


class _Tiles(torch.autograd.Function):
    """Attention of (heads, N, dim) scaled queries to (heads, M, dim) keys."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)  # the softmax of a tile stays in the cache
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        if _fits_torch(q, v):
            mask = None if mask is None else mask.expand(-1, q.shape[1], -1)[None]
            return F.scaled_dot_product_attention(q[None], k[None], v[None], mask, scale=1.0)[0]
        output = q.new_empty((*q.shape[:2], v.shape[-1]))
        for heads, rows in _tiles(q, k):
            torch.bmm(_weights(q, k, mask, heads, rows), v[heads], out=output[heads, rows])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        grad = grad.contiguous()
        grads = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for heads, rows in _tiles(q, k):
            weights = _weights(q, k, mask, heads, rows)
            grads[2][heads].baddbmm_(weights.mT, grad[heads, rows])
            of_weights = torch.bmm(grad[heads, rows], v[heads].mT)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, q.dtype)
            grads[0][heads, rows] = torch.bmm(of_scores, k[heads])
            grads[1][heads].baddbmm_(of_scores.mT, q[heads, rows])
        return (*grads, None)


def _needs_grad(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def _fits_torch(q: Tensor, v: Tensor) -> bool:
    """Tell whether torch's kernel is faster than tiles: it wants values as wide as the keys."""
    return TORCH_PAYS and q.dtype == torch.bfloat16 and q.shape[-1] == v.shape[-1]


def _tiles(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """At least a head for each thread, then as many queries as fit, then further heads."""
    row_bytes = max(k.shape[1] * q.element_size(), 1)
    heads = torch.get_num_threads()
    rows = max(min(_TILE_BYTES // (row_bytes * heads), q.shape[1]), 1)
    heads = max(heads, _TILE_BYTES // (row_bytes * rows))
    for head in range(0, len(q), heads):
        for row in range(0, q.shape[1], rows):
            yield slice(head, head + heads), slice(row, row + rows)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, heads: slice, rows: slice) -> Tensor:
    scores = torch.bmm(q[heads, rows], k[heads].mT)
    if mask is not None:
        scores += mask[heads, rows if mask.shape[1] > 1 else slice(None)]
    return scores.softmax(-1)
