"""The linear layer beside torch's, on both of its ways."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmbeit3.ops.cpu import linear
from mmbeit3.ops.cpu.linear import BFloat16Linear, OneDNNLinear


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call of oneDNN."""
    found: list[int] = []
    run = linear.onednn_linear
    monkeypatch.setattr(linear, "onednn_linear", lambda *args: (found.append(1), run(*args))[1])
    return found


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("shape", [(96,), (7, 96), (2, 5, 96), (2, 3, 5, 96)])
@torch.no_grad()
def test_inference_runs_on_onednn_where_it_can_and_equals_float64(
    calls: list[int], dtype: torch.dtype, rtol: float, shape: tuple[int, ...]
) -> None:
    layer, x = OneDNNLinear(96, 40).eval().to(dtype), torch.randn(shape).to(dtype)
    found = layer(x)
    # Processors below AVX-512 have no kernel of oneDNN for bfloat16.
    assert calls == [1] * (dtype in linear.ONEDNN_DTYPES) and found.dtype == dtype
    want = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    assert (found - want).abs().max() <= rtol * want.abs().max()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@torch.no_grad()
def test_gelu_is_applied_before_the_product_is_rounded(dtype: torch.dtype, rtol: float) -> None:
    if dtype not in linear.ONEDNN_DTYPES:
        pytest.skip("oneDNN has no kernel for this type here")
    layer, x = nn.Linear(96, 40).to(dtype), torch.randn(2, 5, 96).to(dtype)
    found = linear.onednn_linear(x, layer.weight, layer.bias, True)
    want = F.gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double()))
    assert (found - want).abs().max() <= rtol * want.abs().max()


def test_inputs_in_any_layout() -> None:
    layer, x = OneDNNLinear(16, 8).eval(), torch.randn(4, 6, 16)
    with torch.inference_mode():
        for other in (x.transpose(0, 1), x[:, ::2], x.transpose(1, 2).contiguous().mT, x[1:3, 1]):
            torch.testing.assert_close(layer(other), F.linear(other, layer.weight, layer.bias))


def test_gradients_are_torchs(calls: list[int]) -> None:
    layer, x = OneDNNLinear(16, 8).eval(), torch.randn(3, 16, requires_grad=True)
    inputs = (x, layer.weight, layer.bias)
    found = torch.autograd.grad(layer(x).square().sum(), inputs)
    want = torch.autograd.grad(F.linear(*inputs).square().sum(), inputs)
    assert not calls
    torch.testing.assert_close(found, want)


@torch.no_grad()
def test_what_onednn_is_not_for_takes_torchs_way(calls: list[int]) -> None:
    layer, x = OneDNNLinear(16, 8).eval(), torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    assert layer(x[:0]).shape == (0, 8)
    layer.train()(x)
    layer.eval()
    assert OneDNNLinear(16, 8, bias=False).eval()(x).shape == (3, 8)
    assert layer.double()(x.double()).dtype == torch.float64
    assert not calls
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer.float()(torch.randn(3, 16, 1))


def test_frozen_weights_train_what_comes_before(calls: list[int]) -> None:
    layer, x = (
        OneDNNLinear(16, 8).eval().requires_grad_(False),
        torch.randn(3, 16, requires_grad=True),
    )
    layer(x).sum().backward()
    assert x.grad is not None and not calls


needs_bfloat16 = pytest.mark.skipif(
    torch.bfloat16 not in linear.ONEDNN_DTYPES, reason="oneDNN has no kernel for this type here"
)


@needs_bfloat16
@pytest.mark.parametrize("gelu", [False, True])
@torch.no_grad()
def test_bfloat16_within_autocast_is_autocasts(calls: list[int], gelu: bool) -> None:
    layer, x = BFloat16Linear(96, 40).eval(), torch.randn(2, 5, 96)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.fits(x)
        found, want = layer.product(x, gelu), F.linear(x, layer.weight, layer.bias)
        want = F.gelu(want) if gelu else want
        assert gelu or torch.equal(layer(x), found)
    assert found.dtype == torch.bfloat16 and len(calls) == 2 - gelu
    assert (found.float() - want.float()).abs().max() <= 2**-7 * want.abs().max()
    assert not torch.equal(found, layer(x)) and layer(x).dtype == torch.float32


@needs_bfloat16
def test_what_was_made_in_bfloat16_follows_the_weights() -> None:
    layer, x = BFloat16Linear(32, 8).eval().requires_grad_(False), torch.randn(4, 32)
    with torch.autocast("cpu", torch.bfloat16):
        first = layer(x)
        other = copy.deepcopy(layer)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        assert torch.equal(layer(x), 2 * first) and torch.equal(other(x), first)
        other.bias.zero_()
        assert torch.equal(other(x), F.linear(x, other.weight, other.bias))
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other(x), 2 * first)
        other.load_state_dict({name: -x for name, x in layer.state_dict().items()}, assign=True)
        assert torch.equal(other(x), -2 * first)


@needs_bfloat16
def test_bfloat16_trains_as_autocast_does(calls: list[int]) -> None:
    layer, x = BFloat16Linear(16, 8), torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        for mode in (True, False):
            layer.train(mode)(x).sum().backward()
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        assert layer(x).dtype == torch.float16
    assert not calls and layer.weight.grad is not None
