"""One layer of an expert of BEiT-3, vision or language."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn

from mmbeit3.models.layers.attention import Attention

STD, BASE_CHANNELS = 0.02, 768  # of first weights, and from which width on


class FFN(nn.Module):
    """Feed-forward network with a sub-LN before its second linear map.

    Args:
        embed_dims (int): Width C of a token.
        feedforward_channels (int): Hidden width.
        eps (float): eps of the sub-LN. Defaults to 1e-5.
    """

    def __init__(self, embed_dims: int, feedforward_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, feedforward_channels)
        self.act = nn.GELU()
        self.norm = nn.LayerNorm(feedforward_channels, eps=eps)
        self.fc2 = nn.Linear(feedforward_channels, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., C) -> (..., C)."""
        return self.fc2(self.norm(self.act(self.fc1(x))))


class EncoderLayer(nn.Module):
    """Pre-LN transformer layer with sub-LN: torchscale's encoder layer, one expert only.

    Args:
        embed_dims (int): Width C of a token.
        num_heads (int): Number of attention heads.
        feedforward_channels (int): Hidden width of the FFN.
        drop_path_rate (float): Probability of dropping each of the two branches for a sample.
            Defaults to 0.
        eps (float): eps of every LN. Defaults to 1e-5, torchscale's.
        rel_pos_size (int): See :class:`Attention`. Defaults to 0.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        eps: float = 1e-5,
        rel_pos_size: int = 0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=eps)
        self.attn = Attention(embed_dims, num_heads, eps, rel_pos_size)
        self.norm2 = nn.LayerNorm(embed_dims, eps=eps)
        self.ffn = FFN(embed_dims, feedforward_channels, eps)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(
        self,
        x: Tensor,
        segments: tuple[tuple[int, int], ...] = (),
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        joint: Callable[[Tensor], Any] | None = None,
    ) -> Any:
        """Run the layer, or a function that uses it.

        Args:
            x (Tensor): (B, N, C).
            segments (tuple[tuple[int, int], ...]): As in :class:`Attention`; not for ``joint``.
            coords (Tensor, optional): As in :class:`Attention`. Defaults to None.
            mask (Tensor, optional): As in :class:`Attention`. Defaults to None.
            joint (Callable, optional): What is run in the place of the layer, by its modules and
                those of others. Sharding and compilation act where a layer is called, so what is
                called must be the layer. Defaults to None.

        Returns:
            Tensor: (B, N, C); or what ``joint`` returns.
        """
        if joint is not None:
            return joint(x)
        x = x + self.drop_path(self.attn(self.norm1(x), segments, coords, mask))
        return x + self.drop_path(self.ffn(self.norm2(x)))


def init_encoder_layers(layers: Iterable[EncoderLayer]) -> None:
    """Initialize the layers of a tower for training from nothing.

    Linear maps are drawn from a truncated normal, and the last map of each branch of layer l is
    divided by ``sqrt(2 l)``: the initialization of BEiT (arXiv 2106.08254), which the paper takes
    over. The standard deviation is 0.02, as in the released code, from base's 768 channels on. In a
    narrower tower of C channels it is ``0.02 * sqrt(768 / C)``: with 0.02 the sums of fewer
    channels would be smaller, and all branches faint beside the tokens (docs/benchmarks.md, "First
    weights of narrow towers").

    Args:
        layers (Iterable[EncoderLayer]): All layers of the tower, the first at first.
    """
    layers = list(layers)
    for layer in layers:
        std = STD * math.sqrt(max(1.0, BASE_CHANNELS / layer.attn.proj.out_features))
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear) and ".lora_" not in name:
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
    for depth, layer in enumerate(layers, 1):
        layer.attn.proj.weight.data.div_(math.sqrt(2 * depth))
        layer.ffn.fc2.weight.data.div_(math.sqrt(2 * depth))
