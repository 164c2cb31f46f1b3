"""A linear layer that runs on oneDNN where that is possible and faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmbeit3.ops.cpu.processor import onednn_dtypes


class OneDNNLinear(nn.Linear):
    """``nn.Linear``, fast in CPU inference.

    On the CPU torch multiplies float32 matrices by MKL, which does not use all that processors of
    other makers have. oneDNN, which torch carries too and uses for half precision, does. Its
    operator has no gradient and knows nothing of autocast, so training, autocast, other devices and
    other types take torch's way; so does bfloat16 on processors for which oneDNN has no kernel in
    that type. Results differ by the order of sums: by some 1e-7 of the largest value in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input`` (..., in_features) -> (..., out_features)."""
        return self.product(input, False) if self.fits(input) else super().forward(input)

    def fits(self, input: Tensor) -> bool:
        """Tell whether :meth:`product` may compute the layer's output."""
        return (
            is_inference(self, input)
            and input.dtype == self.weight.dtype
            and input.dtype in ONEDNN_DTYPES
            and self.bias is not None
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.enabled
        )

    def product(self, x: Tensor, gelu: bool) -> Tensor:
        """The output for ``x`` (..., in_features), through GELU if asked."""
        return onednn_linear(x, self.weight, self.bias, gelu)


class PreparedLinear(OneDNNLinear):
    """``OneDNNLinear`` that keeps what it made of its weights, until they change."""

    _made: tuple[Tensor, int, tuple[Tensor, ...]] | None = None

    def prepared(self) -> tuple[Tensor, ...]:
        """What :meth:`prepare` returns, made again where the weights are others."""
        weight = self.weight
        version = 0 if weight.is_inference() else weight._version
        if self._made is None or self._made[0] is not weight or self._made[1] != version:
            self._made = weight, version, self.prepare()
        return self._made[2]

    def prepare(self) -> tuple[Tensor, ...]:
        """Make of the weights what products need."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_made"}


class BFloat16Linear(PreparedLinear):
    """``OneDNNLinear`` for models that run within autocast to bfloat16.

    Autocast makes bfloat16 of all weights at each call, which small images feel most. This layer
    makes it once; it keeps its own weights.
    """

    def fits(self, input: Tensor) -> bool:
        """Tell whether :meth:`product` may compute the layer's output."""
        if not torch.is_autocast_enabled("cpu"):
            return super().fits(input)
        return (
            is_inference(self, input)
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and torch.bfloat16 in ONEDNN_DTYPES
            and self.weight.dtype == torch.float32
            and self.bias is not None
            and torch.backends.mkldnn.enabled
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
        )

    def product(self, x: Tensor, gelu: bool) -> Tensor:
        """The output for ``x`` (..., in_features), through GELU if asked."""
        if not torch.is_autocast_enabled("cpu"):
            return super().product(x, gelu)
        (weight,) = self.prepared()
        return onednn_linear(x.bfloat16(), weight, self.bias.bfloat16(), gelu)

    def prepare(self) -> tuple[Tensor, ...]:
        """The weight in bfloat16."""
        return (self.weight.detach().bfloat16(),)


def is_inference(layer: nn.Linear, input: Tensor) -> bool:
    """Tell whether a layer is finished, and this an input on the CPU that needs no gradient."""
    return (
        input.device.type == layer.weight.device.type == "cpu"
        and input.numel() > 0
        and input.shape[-1] == layer.in_features
        and not layer.training  # a layer computed again must do what it did without gradient
        and not (torch.is_grad_enabled() and (input.requires_grad or layer.weight.requires_grad))
    )


# Asked once, here: under torch.compile or with tensors without content nothing could be tried.
ONEDNN_DTYPES = onednn_dtypes()


def _product(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    activation: tuple[str, list, str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


# A custom operator, because torch.compile cannot lower oneDNN's own unless it packs the weights; by
# a Library, because the first call of torch.library.custom_op imports the compiler: 0.8 s.
_LIBRARY = torch.library.Library("mmbeit3", "FRAGMENT")
_LIBRARY.define("onednn_linear(Tensor x, Tensor weight, Tensor bias, bool gelu) -> Tensor")
_LIBRARY.impl("onednn_linear", _product, "CPU")


@torch.library.register_fake("mmbeit3::onednn_linear", lib=_LIBRARY)
def _(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    """Product of ``x`` (..., in) and ``weight`` (out, in), plus ``bias``, through GELU if asked.

    oneDNN applies bias and GELU (exact, with erf) while it writes the product.
    """
    return torch.ops.mmbeit3.onednn_linear(x, weight, bias, gelu)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of (B, N, K) and (B, K, M), by oneDNN where that can be, and needs no gradient."""
    if (
        a.device.type != "cpu"
        or a.dtype != b.dtype
        or a.dtype not in ONEDNN_DTYPES
        or torch.is_autocast_enabled("cpu")
        or torch.is_grad_enabled()
        or not torch.backends.mkldnn.enabled
    ):
        return a @ b
    zeros = b.new_zeros(b.shape[2])
    parts = zip(a, b.transpose(1, 2).contiguous(), strict=True)
    products = [onednn_linear(one, other, zeros, False) for one, other in parts]
    return products[0][None] if len(products) == 1 else torch.stack(products)
