"""A linear layer that runs on oneDNN where that is possible and faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmbeit3.ops.cpu.processor import onednn_dtypes


class OneDNNLinear(nn.Linear):
    """``nn.Linear``, fast on the CPU, in training too.

    On the CPU torch multiplies float32 matrices by MKL, which does not use all that processors of
    other makers have. oneDNN, which torch carries too and uses for half precision, does. Its
    operator knows nothing of autocast, so autocast, other devices and other types take torch's way;
    so does bfloat16 on processors for which oneDNN has no kernel in that type. Results and
    gradients differ by the order of sums: by some 1e-7 of the largest value in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input`` (..., in_features) -> (..., out_features)."""
        if fits_onednn(self, input):
            return onednn_linear(input, self.weight, self.bias, False)
        return super().forward(input)


def fits_onednn(layer: nn.Linear, input: Tensor) -> bool:
    """Tell whether :func:`onednn_linear` may compute the layer's output."""
    return (
        input.device.type == layer.weight.device.type == "cpu"
        and input.dtype == layer.weight.dtype
        and input.dtype in ONEDNN_DTYPES
        and input.numel() > 0
        and input.shape[-1] == layer.in_features
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
    )


# Asked once, here: under torch.compile or with tensors without content nothing could be tried.
ONEDNN_DTYPES = onednn_dtypes()


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """Product of ``x`` (..., in) and ``weight`` (out, in), plus ``bias``, through GELU if asked.

    oneDNN applies bias and GELU (exact, with erf) while it writes the product. With GELU it has no
    gradient.
    """
    rows = _product(x.reshape(-1, x.shape[-1]), weight, bias, gelu)
    return rows.view(*x.shape[:-1], -1)


# A custom operator, because torch.compile cannot lower oneDNN's own unless it packs the weights,
# and because that one has no gradient. Of matrices alone: of more dimensions the output would be a
# view, which nobody may change in place.
@torch.library.custom_op("mmbeit3::onednn_linear", mutates_args=(), device_types="cpu")
def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    activation: tuple[str, list, str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


@_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    return x.new_empty(len(x), len(weight))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, bool], output: Tensor) -> None:
    x, weight, _, ctx.gelu = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """By the same operator, so that the gradient has one, too."""
    if ctx.gelu:
        raise NotImplementedError("a product through GELU has no gradient")
    (x, weight), needed, grad = ctx.saved_tensors, ctx.needs_input_grad, grad.contiguous()
    of_x = _product(grad, weight.T, None, False) if needed[0] else None
    of_weight = _product(grad.T, x.T, None, False) if needed[1] else None
    return of_x, of_weight, grad.sum(0) if needed[2] else None, None


_product.register_autograd(_gradients, setup_context=_keep)
