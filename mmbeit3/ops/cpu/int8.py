"""Linear layers in 8-bit integers, for CPUs with instructions for them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbeit3.ops.cpu.linear import PreparedLinear, is_inference

_ZERO = 128  # what stands for 0 in a byte; signed inputs have no fast kernel in oneDNN


class Int8Linear(PreparedLinear):
    """``OneDNNLinear`` that multiplies bytes: inference on the CPU alone, all else goes its way.

    Weights get a scale for each output, once; inputs get one for each image, at each call, so that
    no image depends on those beside it. Sums are exact, in 32 bits, and leave in the type that
    autocast asks for. The layer keeps its own weights.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input`` (..., in_features) -> (..., out_features)."""
        if fits_int8(self, input):
            return int8_linear(self, input)
        return super().forward(input)

    def prepare(self) -> tuple[Tensor, ...]:
        """The weights in oneDNN's order, and the scale (out_features,) of each output."""
        weight = self.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        return torch.ops.onednn.qlinear_prepack(rounded, None), scales


def fits_int8(layer: torch.nn.Linear, input: Tensor) -> bool:
    """Tell whether :func:`int8_linear` may compute the layer's output."""
    return (
        isinstance(layer, Int8Linear)
        and is_inference(layer, input)
        and layer.weight.dtype == torch.float32
        and input.ndim > 1
        and not torch.jit.is_tracing()
    )


def int8_linear(layer: Int8Linear, x: Tensor) -> Tensor:
    """The output of a layer for ``x`` (..., N, in): one image, or several."""
    dtype = outer_dtype()
    images = x.reshape(-1, *x.shape[-2:]) if x.ndim > 2 else x[None]
    outputs = [int8_product(layer, image, False, dtype) for image in images]
    output = outputs[0] if len(outputs) == 1 else torch.stack(outputs)
    return output.view(*x.shape[:-1], layer.out_features)


def outer_dtype() -> torch.dtype:
    """The type that linear layers return: autocast's, else float32."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return torch.float32


def int8_product(layer: Int8Linear, x: Tensor, gelu: bool, dtype: torch.dtype) -> Tensor:
    """Rows (N, in) by the layer's weights, plus bias, through GELU if asked: (N, out)."""
    weight, scales = layer.prepared()
    x = x.float()
    low, high = x.aminmax()
    scale = max(-low.item(), high.item()) / 127 or 1.0
    shifted = torch.add(torch.tensor(_ZERO + 0.5), x, alpha=1 / scale)  # .to() cuts what is behind
    activation: tuple[str, list, str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.onednn.qlinear_pointwise(
        shifted.to(torch.uint8), scale, _ZERO, weight, scales, None, layer.bias, 1.0, 0, dtype,
        *activation,
    )  # fmt: skip
