"""A linear layer that runs on oneDNN where that is possible and faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.utils.processor import onednn_dtypes


class Linear(nn.Linear):
    """``nn.Linear``, optionally followed by GELU (exact, with erf), fast in CPU inference.

    On the CPU torch multiplies float32 matrices by MKL, which does not use all that processors of
    other makers have. oneDNN, which torch carries too and uses for half precision, does; and it
    applies bias and GELU while it writes the product. Its operator has no gradient and knows
    nothing of autocast, so training, autocast, other devices and other types take torch's way; so
    does bfloat16 on processors for which oneDNN has no kernel in that type.
    Results differ by the order of sums: by some 1e-7 of the largest value in float32.

    Args:
        in_features (int): Channels of the input.
        out_features (int): Channels of the output.
        gelu (bool): Apply GELU to the output. Defaults to False.
    """

    def __init__(self, in_features: int, out_features: int, gelu: bool = False) -> None:
        super().__init__(in_features, out_features)
        self.gelu = gelu

    def forward(self, input: Tensor) -> Tensor:
        """``input`` (..., in_features) -> (..., out_features)."""
        if self._fits_onednn(input):
            return onednn_linear(input, self.weight, self.bias, self.gelu)
        output = super().forward(input)
        return F.gelu(output) if self.gelu else output

    def extra_repr(self) -> str:
        """Say what differs from ``nn.Linear``."""
        return super().extra_repr() + (", gelu=True" if self.gelu else "")

    def _fits_onednn(self, input: Tensor) -> bool:
        return (
            input.device.type == self.weight.device.type == "cpu"
            and input.dtype == self.weight.dtype
            and input.dtype in ONEDNN_DTYPES
            and input.numel() > 0
            and input.shape[-1] == self.in_features
            and not self.training  # a layer computed again must do what it did without gradient
            and not torch.is_autocast_enabled("cpu")
            and not (torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad))
            and torch.backends.mkldnn.enabled
        )


# Asked once, here: under torch.compile or with tensors without content nothing could be tried.
ONEDNN_DTYPES = onednn_dtypes()


# A custom operator, because torch.compile cannot lower oneDNN's own unless it packs the weights.
@torch.library.custom_op("mmbeit3::onednn_linear", mutates_args=(), device_types="cpu")
def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    """Product of ``x`` (..., in) and ``weight`` (out, in), plus ``bias``, through GELU if asked."""
    activation = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


@onednn_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))
