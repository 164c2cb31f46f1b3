"""Relative positions folded into queries and keys, against the bias written out as a matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.models.layers import Attention, window_layout


def biased_attention(attn: Attention, x: Tensor, height: int, width: int) -> Tensor:
    """Section 4.1 of arXiv 2112.01526, with the score matrix and its bias held in memory."""
    batch, tokens, channels = x.shape
    heads = attn.num_heads
    qkv = attn.qkv(x).view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    scores = q @ k.transpose(-1, -2) * (channels // heads) ** -0.5
    rows, cols = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    for place, table in ((rows, attn.rel_pos.rel_pos_h), (cols, attn.rel_pos.rel_pos_w)):
        rel = table[place[:, None] - place[None] + (table.shape[0] - 1) // 2]
        scores = scores + torch.einsum("bhqc,qkc->bhqk", q, rel)
    out = F.softmax(scores, -1) @ v
    return attn.proj(attn.norm(out.transpose(1, 2).reshape(batch, tokens, channels)))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 6), (3, 5)])
def test_equals_the_bias_matrix(height: int, width: int) -> None:
    torch.manual_seed(0)
    attn = Attention(32, 4, rel_pos_size=6)
    torch.nn.init.normal_(attn.rel_pos.rel_pos_h)
    torch.nn.init.normal_(attn.rel_pos.rel_pos_w)
    x = torch.randn(2, height * width, 32)
    order = window_layout(height, width, 0).order
    coords = torch.stack([order // width, order % width])
    got = attn(x, ((1, height * width),), coords)
    want = biased_attention(attn, x, height, width)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    got.sum().backward()
    assert attn.rel_pos.rel_pos_h.grad.abs().sum() > 0


def test_zero_tables_change_nothing() -> None:
    torch.manual_seed(0)
    attn = Attention(32, 4, rel_pos_size=4)
    plain = Attention(32, 4)
    plain.load_state_dict(attn.state_dict(), strict=False)
    x = torch.randn(1, 16, 32)
    coords = torch.stack([torch.arange(16) // 4, torch.arange(16) % 4])
    torch.testing.assert_close(attn(x, ((1, 16),), coords), plain(x, ((1, 16),)))
