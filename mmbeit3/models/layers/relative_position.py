"""Decomposed relative positions of ViTDet, folded into the queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativePosition(nn.Module):
    """Adds ``q . rel_h[row_q - row_k] + q . rel_w[col_q - col_k]`` to the attention scores.

    The formula is that of MViTv2 (arXiv 2112.01526, section 4.1) as ViTDet uses it. The bias is not
    built as a matrix: with ``q' = [q * scale, q . rel_h, q . rel_w]`` and ``k' = [k, onehot(row),
    onehot(column)]`` the plain product ``q' . k'`` is the same sum, so fused attention applies.

    Args:
        head_dim (int): Width of a head.
        size (int): Side in tokens of the region the tables are made for. A smaller region (a window
            at the edge) reads their middle; a larger one reads them linearly interpolated.
    """

    def __init__(self, head_dim: int, size: int) -> None:
        super().__init__()
        self.scale = head_dim**-0.5
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, head_dim))

    def forward(self, q: Tensor, k: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Extend queries and keys.

        Args:
            q (Tensor): (B * windows, heads, tokens, head_dim) queries.
            k (Tensor): Keys of the same shape.
            coords (Tensor): (2, windows * tokens) int64 row and column of each token, on the CPU.

        Returns:
            tuple[Tensor, Tensor]: the same with head_dim + rows + columns channels, to be attended
            with a scale of 1.
        """
        tokens = q.shape[2]
        rows, cols = coords[:, :tokens] - coords[:, :tokens].amin(1, keepdim=True)
        q_h, k_h = self._axis(q, rows, self.rel_pos_h)
        q_w, k_w = self._axis(q, cols, self.rel_pos_w)
        k_extra = torch.cat([k_h, k_w], -1).expand(*k.shape[:2], -1, -1)
        return torch.cat([q * self.scale, q_h, q_w], -1), torch.cat([k, k_extra], -1)

    def _axis(self, q: Tensor, place: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Products of q with the table along one axis, and the one-hot keys that pick them."""
        length = int(place.max()) + 1
        offset = place[:, None] - torch.arange(length)[None] + length - 1
        rel = _fit(table, length)[offset.to(q.device)]  # (tokens, length, head_dim)
        picks = F.one_hot(place, length).to(q)
        return torch.einsum("bhtc,tlc->bhtl", q, rel.to(q)), picks


def _fit(table: Tensor, length: int) -> Tensor:
    """Rows of a (2 * size - 1, head_dim) table for a region of ``length`` tokens a side."""
    extra = table.shape[0] - (2 * length - 1)
    if extra >= 0:
        return table[extra // 2 : table.shape[0] - extra // 2]
    return F.interpolate(table.T[None], size=2 * length - 1, mode="linear")[0].T
