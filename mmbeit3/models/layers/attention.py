"""Multi-head self-attention of BEiT-3: over all tokens, or within windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.models.layers.relative_position import RelativePosition
from mmbeit3.ops.cpu.attention import attend_by_tiles, is_tiled


class Attention(nn.Module):
    """Self-attention with the sub-LN of Magneto (arXiv 2210.06423) before the output projection.

    Computes what torchscale's ``MultiheadAttention`` computes for one modality, through
    fused attention: the score matrix is never held whole. Tokens of several experts attend to each
    other like this: each expert's :meth:`project`, one :meth:`attend` over all that they return,
    and each expert's :meth:`output` of its own tokens.

    Args:
        embed_dims (int): Width C of a token.
        num_heads (int): Number of heads; divides ``embed_dims``.
        eps (float): eps of the sub-LN. Defaults to 1e-5, torchscale's.
        rel_pos_size (int): Side, in tokens, of the region that the decomposed relative positions of
            ViTDet (arXiv 2203.16527) are made for; 0 for none. Defaults to 0.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, eps: float = 1e-5, rel_pos_size: int = 0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.norm = nn.LayerNorm(embed_dims, eps=eps)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rel_pos = (
            RelativePosition(embed_dims // num_heads, rel_pos_size) if rel_pos_size else None
        )

    def forward(
        self,
        x: Tensor,
        segments: tuple[tuple[int, int], ...],
        coords: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within each window.

        Args:
            x (Tensor): (B, N, C) tokens, window after window.
            segments (tuple[tuple[int, int], ...]): (number of windows, tokens in each), in the
                order of ``x``; ``((1, N),)`` is global attention.
            coords (Tensor, optional): (2, N) int64 row and column of each token, on the CPU; needed
                with relative positions only.
            mask (Tensor, optional): As in :meth:`attend`, with windows as batch, the same for every
                segment. Defaults to None, all tokens of a window see each other.

        Returns:
            Tensor: (B, N, C).
        """
        qkv, out, start = self.project(x), [], 0
        for windows, tokens in segments:
            run = slice(start, start := start + windows * tokens)
            q, k, v = (_as_batch(part[:, :, run], windows) for part in qkv)
            scale = None
            if self.rel_pos is not None:
                assert coords is not None
                (q, k), scale = self.rel_pos(q, k, coords[:, run]), 1.0
            attended = self.attend(q, k, v, mask, scale)  # (B * windows, tokens, C)
            out.append(attended.reshape(len(x), windows * tokens, -1))
        return self.output(out[0] if len(out) == 1 else torch.cat(out, 1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, C) to queries, keys and values (B, heads, N, head_dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, head_dim)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        """Mix values by the softmax of scores; no weight takes part.

        Args:
            q (Tensor): (B, heads, N, dim) queries.
            k (Tensor): (B, heads, M, dim) keys.
            v (Tensor): (B, heads, M, head_dim) values.
            mask (Tensor, optional): Of a shape that expands to (B, heads, N, M); bool, True where a
                query may see a key, or floating point, added to the scores. Defaults to None, all
                see all.
            scale (float, optional): Factor on the scores. Defaults to ``dim ** -0.5``.

        Returns:
            Tensor: (B, N, C).
        """
        if is_tiled(q, k, v):
            out = attend_by_tiles(q, k, v, mask, scale)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        return out.transpose(1, 2).flatten(2)

    def attend_shared(
        self,
        q: Tensor,
        shared: tuple[Tensor, Tensor],
        own: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Mix values as :meth:`attend` does, of keys that R queries share and of each one's own.

        Shared keys are never copied for each of the R, which makes it the attention of a few words
        to the many tokens of their image.

        Args:
            q (Tensor): (B * R, heads, N, head_dim) queries.
            shared (tuple[Tensor, Tensor]): Keys and values (B, heads, S, head_dim) that R queries
                in a row see whole.
            own (tuple[Tensor, Tensor]): Keys and values (B * R, heads, M, head_dim).
            mask (Tensor, optional): (N, M) bool, True where a query may see a key of its own.
                Defaults to None, all see all.

        Returns:
            Tensor: (B * R, N, C).
        """
        (key, value), (own_key, own_value) = shared, own
        batch, tokens = len(key), q.shape[2]
        q = q * q.shape[-1] ** -0.5
        # (B, heads, R * N, head_dim), so that shared keys meet all their queries in one product
        rows = q.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
        many = (rows @ key.transpose(-1, -2)).unflatten(2, (-1, tokens)).transpose(1, 2)
        few = q @ own_key.transpose(-1, -2)
        if mask is not None:
            few = few.masked_fill(~mask, float("-inf"))
        weights = torch.cat([many.flatten(0, 1), few], -1).softmax(-1)
        weights = weights.to(value.dtype)  # autocast has the softmax in float32
        many, few = weights.split([key.shape[2], own_key.shape[2]], -1)
        many = many.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
        mixed = (many @ value).unflatten(2, (-1, tokens)).transpose(1, 2).flatten(0, 1)
        return (mixed + few @ own_value).transpose(1, 2).flatten(2)

    def output(self, x: Tensor) -> Tensor:
        """Attended tokens (B, N, C) to what the layer adds to its input (B, N, C)."""
        return self.proj(self.norm(x))


def _as_batch(x: Tensor, windows: int) -> Tensor:
    """(B, heads, windows * tokens, dim) -> (B * windows, heads, tokens, dim)."""
    return x.unflatten(2, (windows, -1)).transpose(1, 2).flatten(0, 1)
