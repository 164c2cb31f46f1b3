"""Attention beside torch's."""

from __future__ import annotations

import pytest
import torch

from mmbeit3.models.layers import Attention, attention


def test_bfloat16_goes_by_tiles_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, calls = Attention(16, 2).bfloat16(), []
    q, k, v = layer.project(torch.randn(1, 5, 16).bfloat16())
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    monkeypatch.setattr(attention, "is_tiled", lambda *args: False)
    want = layer.attend(q, k, v, mask, 0.5)
    monkeypatch.setattr(attention, "is_tiled", lambda *args: True)
    by_tiles = attention.attend_by_tiles
    monkeypatch.setattr(
        attention, "attend_by_tiles", lambda *args: calls.append(args) or by_tiles(*args)
    )
    torch.testing.assert_close(layer.attend(q, k, v, mask, 0.5), want, rtol=0.02, atol=0.02)
    assert len(calls) == 1 and calls[0][3] is mask and calls[0][4] == 0.5
