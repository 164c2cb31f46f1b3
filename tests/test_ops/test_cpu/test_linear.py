"""The linear layer beside torch's, on both of its ways."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmbeit3.ops.cpu import linear
from mmbeit3.ops.cpu.linear import OneDNNLinear


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call of oneDNN."""
    found: list[int] = []
    run = linear._product
    monkeypatch.setattr(linear, "_product", lambda *args: (found.append(1), run(*args))[1])
    return found


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("shape", [(96,), (7, 96), (2, 5, 96), (2, 3, 5, 96)])
@torch.no_grad()
def test_it_runs_on_onednn_where_it_can_and_equals_float64(
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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(96,), (7, 96), (2, 5, 96), (2, 150, 96)])
def test_gradients_equal_float64(calls: list[int], shape: tuple[int, ...], bias: bool) -> None:
    layer = OneDNNLinear(96, 40, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad(layer(x).square().sum(), inputs)
    assert len(calls) == 3
    exact = [value.detach().double().requires_grad_() for value in inputs]
    want = torch.autograd.grad(F.linear(*exact).square().sum(), exact)
    for one, two in zip(found, want, strict=True):
        assert one.shape == two.shape and (one - two).abs().max() <= 2e-6 * two.abs().max()


def test_gradients_of_inputs_in_any_layout_and_of_gradients() -> None:
    layer = OneDNNLinear(16, 8)
    for x in (torch.randn(4, 6, 16).mT.contiguous().mT, torch.randn(1, 1, 16).expand(3, 5, 16)):
        x, found = x.requires_grad_(), []
        for way in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
            once = torch.autograd.grad(way(x).square().sum(), x, create_graph=True)[0]
            found.append(torch.autograd.grad(once.square().sum(), [x, layer.weight]))
            found[-1] += torch.autograd.grad(way(x).sum(), [x, layer.bias])  # one value, expanded
        torch.testing.assert_close(*found)


@torch.no_grad()
def test_what_onednn_is_not_for_takes_torchs_way(calls: list[int]) -> None:
    layer, x = OneDNNLinear(16, 8).eval(), torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    assert layer(x[:0]).shape == (0, 8)
    assert layer.double()(x.double()).dtype == torch.float64
    assert not calls
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer.float()(torch.randn(3, 16, 1))


@pytest.mark.parametrize("shape", [(7, 16), (2, 5, 16)])
def test_what_comes_out_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    layer, x, found = OneDNNLinear(16, 8), torch.randn(shape), []
    for way in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
        layer.zero_grad()
        y = way(x)
        y += 1
        F.relu(y, inplace=True).square().sum().backward()
        found.append(layer.weight.grad.clone())
    torch.testing.assert_close(*found)


def test_nothing_is_computed_for_what_is_frozen(calls: list[int]) -> None:
    layer = OneDNNLinear(16, 8).requires_grad_(False)
    x = torch.randn(3, 16, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(3, 16)) and len(calls) == 2
    layer.weight.requires_grad_()
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is None and len(calls) == 4
