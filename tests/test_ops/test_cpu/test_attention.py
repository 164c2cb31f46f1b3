"""Attention in bfloat16 beside torch's in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.ops.cpu import attention as module
from mmbeit3.ops.cpu.attention import attend_by_tiles, is_tiled

SHAPES = {  # q, k, v
    "windows": ((40, 3, 64, 16), (40, 3, 64, 16), (40, 3, 64, 16)),
    "one head": ((1, 1, 300, 8), (1, 1, 300, 8), (1, 1, 300, 8)),
    "wide scores": ((2, 3, 70, 24), (2, 3, 500, 24), (2, 3, 500, 10)),
    "one token": ((2, 2, 1, 8), (2, 2, 1, 8), (2, 2, 1, 8)),
}


def tensors(shapes: tuple, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).to(dtype) for shape in shapes]


def error(found: Tensor, want: Tensor) -> float:
    return ((found.double() - want).norm() / want.norm()).item()


@pytest.mark.parametrize(
    ("tile", "torch_pays"), [(64, False), (1 << 12, False), (4 << 20, False), (0, True)]
)
@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("name", SHAPES)
def test_bfloat16_by_tiles_is_right_within_roundoff(
    monkeypatch: pytest.MonkeyPatch, name: str, scale: float | None, tile: int, torch_pays: bool
) -> None:
    monkeypatch.setattr(module, "_TILE_BYTES", tile)
    monkeypatch.setattr(module, "TORCH_PAYS", torch_pays)
    q, k, v = tensors(SHAPES[name])
    want = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=scale)
    with torch.no_grad():
        found = attend_by_tiles(q, k, v, scale=scale)
    assert found.dtype == torch.bfloat16 and found.shape == want.shape
    # In units of roundoff: 0.6 is torch's own; sharper scores are rounded in larger steps.
    assert error(found, want) < (2 if scale is None else 6) * 2**-8


def test_strided_inputs_as_attention_makes_them() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 50, 3, 4, 8).bfloat16()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    with torch.inference_mode():
        want = attend_by_tiles(q.contiguous(), k.contiguous(), v.contiguous())
        assert torch.equal(attend_by_tiles(q, k, v), want)


@pytest.mark.parametrize("kind", [None, "bool", "float", "of keys"])
@pytest.mark.parametrize("tile", [200, 4 << 20])
def test_the_gradient_is_that_of_the_function(
    monkeypatch: pytest.MonkeyPatch, tile: int, kind: str | None
) -> None:
    monkeypatch.setattr(module, "_TILE_BYTES", tile)
    shapes = ((2, 2, 7, 4), (2, 2, 5, 4), (2, 2, 5, 3))
    inputs = [x.requires_grad_() for x in tensors(shapes, torch.float64)]
    sees = torch.rand(2, 1, 7, 5) > 0.4
    sees[..., 0] = True
    masks = {"bool": sees, "float": torch.randn(2, 7, 5).double(), "of keys": sees[:, :, :1]}
    masks["float"] = masks["float"][:1, :]  # shared by batch and heads
    mask = masks[kind] if kind else None
    want = F.scaled_dot_product_attention(*inputs, mask)
    found = attend_by_tiles(*inputs, mask)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    upstream = torch.randn_like(want)
    expected = torch.autograd.grad(want, inputs, upstream)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, upstream), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("kind", [None, "bool", "float"])
@pytest.mark.parametrize("torch_pays", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_masks_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch, name: str, torch_pays: bool, kind: str | None
) -> None:
    monkeypatch.setattr(module, "TORCH_PAYS", torch_pays)
    q, k, v = tensors(SHAPES[name])
    sees = torch.rand(len(q), 1, q.shape[2], k.shape[2]) > 0.4
    sees[..., 0] = True
    mask = {None: None, "bool": sees[:, :, :1], "float": torch.randn(1, k.shape[2])}[kind]
    exact = mask.double() if kind == "float" else mask
    want = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), exact)
    assert error(attend_by_tiles(q, k, v, mask), want) < 3 * 2**-8


@pytest.mark.parametrize("torch_pays", [False, True])
@pytest.mark.parametrize("name", ["windows", "wide scores"])
def test_bfloat16_gradients_are_right_within_roundoff(
    monkeypatch: pytest.MonkeyPatch, name: str, torch_pays: bool
) -> None:
    monkeypatch.setattr(module, "TORCH_PAYS", torch_pays)
    inputs = [x.requires_grad_() for x in tensors(SHAPES[name])]
    double = [x.detach().double().requires_grad_() for x in inputs]
    want = F.scaled_dot_product_attention(*double)
    upstream = torch.randn_like(want)
    expected = torch.autograd.grad(want, double, upstream)
    found = torch.autograd.grad(attend_by_tiles(*inputs), inputs, upstream.bfloat16())
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) < 4 * 2**-8


@pytest.mark.parametrize(
    ("dtype", "pays", "torch_pays", "grad", "tiled"),
    [
        (torch.bfloat16, True, False, False, True),
        (torch.bfloat16, True, True, False, False),
        (torch.bfloat16, True, True, True, True),
        (torch.bfloat16, False, False, True, False),
        (torch.float32, True, False, True, False),
        (torch.float16, True, False, True, False),
    ],
)
def test_tiles_are_for_bfloat16_where_they_pay(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    pays: bool,
    torch_pays: bool,
    grad: bool,
    tiled: bool,
) -> None:
    monkeypatch.setattr(module, "TILES_PAY", pays)
    monkeypatch.setattr(module, "TORCH_PAYS", torch_pays)
    q, k, v = tensors(SHAPES["windows"], dtype)
    assert is_tiled(q, k, v.requires_grad_(grad)) == tiled
    # Relative positions make queries and keys wider than values.
    assert is_tiled(q, k, v[..., :8]) == (pays and dtype == torch.bfloat16)
