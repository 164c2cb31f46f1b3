"""Multi-head self-attention of BEiT-3: over all tokens, or within windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.models.layers.linear import Linear
from mmbeit3.models.layers.relative_position import RelativePosition
from mmbeit3.ops.attention import attention


class Attention(nn.Module):
    """Self-attention with the sub-LN of Magneto (arXiv 2210.06423) before the output projection.

    Computes what torchscale's ``MultiheadAttention`` computes for one modality, through
    fused attention: the score matrix is never held whole.

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
        self.qkv = Linear(embed_dims, 3 * embed_dims)
        self.norm = nn.LayerNorm(embed_dims, eps=eps)
        self.proj = Linear(embed_dims, embed_dims)
        self.rel_pos = (
            RelativePosition(embed_dims // num_heads, rel_pos_size) if rel_pos_size else None
        )

    def forward(
        self, x: Tensor, segments: tuple[tuple[int, int], ...], coords: Tensor | None = None
    ) -> Tensor:
        """Attend within each window.

        Args:
            x (Tensor): (B, N, C) tokens, window after window.
            segments (tuple[tuple[int, int], ...]): (number of windows, tokens in each), in the
                order of ``x``; ``((1, N),)`` is global attention.
            coords (Tensor, optional): (2, N) int64 row and column of each token, on the CPU; needed
                with relative positions only.

        Returns:
            Tensor: (B, N, C).
        """
        batch, _, channels = x.shape
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, head_dim)
        runs = [windows * tokens for windows, tokens in segments]
        coords_of_runs = coords.split(runs, 1) if self.rel_pos is not None else [None] * len(runs)
        out = [
            self._attend(
                run.reshape(batch * windows, tokens, 3, self.num_heads, -1), run_coords
            ).reshape(batch, windows * tokens, channels)
            for run, run_coords, (windows, tokens) in zip(
                qkv.split(runs, 1), coords_of_runs, segments, strict=True
            )
        ]
        return self.proj(self.norm(out[0] if len(out) == 1 else torch.cat(out, 1)))

    def _attend(self, qkv: Tensor, coords: Tensor | None) -> Tensor:
        """(windows, tokens, 3, heads, head_dim) -> (windows, tokens, heads, head_dim)."""
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (windows, heads, tokens, head_dim)
        # Not in training: a layer computed again must do what it did without gradient.
        attend = F.scaled_dot_product_attention if self.training else attention
        if self.rel_pos is None:
            return attend(q, k, v).transpose(1, 2)
        q, k = self.rel_pos(q, k, coords)
        return attend(q, k, v, scale=1.0).transpose(1, 2)
