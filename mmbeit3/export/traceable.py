"""Modules whose trace holds for every size of image: image sizes stay part of the graph.

A trace records tensors and what is done with sizes, and takes everything else as it was: branches,
counts, tables. So the windows of the tower, which are cut off at the edges of the grid, are whole
windows here whose places beyond the image no token attends to: the same sums.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.models.backbones import BEiT3
from mmbeit3.models.decode_heads import Mask2FormerHead
from mmbeit3.models.layers import Attention
from mmbeit3.utils import InputError


def make_traceable(model: nn.Module) -> None:
    """Give the modules of a model, in place, a class whose forward can be traced for every size.

    Args:
        model (nn.Module): A model in evaluation mode, on the CPU, of batches of one image.
    """
    for module in model.modules():
        plain: Any = type(module)
        for base, traced in TRACED.items():
            if isinstance(module, base):
                module.__class__ = _mixed(traced, plain)


def check_traceable(model: nn.Module) -> None:
    """Make sure that the graph of a model can be made for every size.

    Raises:
        InputError: An option stands against it.
    """
    for module in model.modules():
        if isinstance(module, BEiT3) and module.with_rel_pos:
            raise InputError(
                "the tower has relative positions, of which no graph for every size is made; "
                "expected rel_pos=False"
            )


@cache
def _mixed(traced: Any, base: Any) -> type:
    return type(f"Traced{base.__name__}", (traced, base), {})


class Windows:
    """Tokens of a grid in whole windows, as :class:`mmbeit3.models.layers.TokenLayout` has them.

    Args:
        height (Tensor): Rows of the grid, a number.
        width (Tensor): Columns of the grid, a number.
        size (int): Side of a window in tokens; 0 for one window over everything.

    Attributes:
        windows (Tensor | int): How many there are.
        mask (Tensor | None): (1, 1, 1, N), 0 at tokens of the grid and -inf at places beyond it.
    """

    def __init__(self, height: Tensor, width: Tensor, size: int) -> None:
        self.height, self.width, self.size = height, width, size
        self.windows: Tensor | int = 1
        self.mask: Tensor | None = None
        if size:
            self._rows, self._columns = (
                (side + size - 1) // size for side in (self.height, self.width)
            )
            self.windows = self._rows * self._columns
            inside = self.arrange(torch.ones(1, 1, 1).expand(1, height * width, 1))
            self.mask = torch.where(inside > 0, 0.0, -torch.inf).reshape(1, 1, 1, -1)

    def arrange(self, x: Tensor) -> Tensor:
        """Row-major tokens (1, H * W, ...) to windows (1, N, ...), with zeros beyond the grid."""
        if not self.size:
            return x
        channels = x.shape[2:]
        x = x.reshape(1, self.height, self.width, -1)
        size, rows, columns = self.size, self._rows, self._columns
        x = F.pad(x, (0, 0, 0, columns * size - self.width, 0, rows * size - self.height))
        x = x.reshape(rows, size, columns, size, -1).transpose(1, 2)
        return x.reshape(1, rows * columns * size * size, *channels)

    def restore(self, x: Tensor) -> Tensor:
        """Undo :meth:`arrange`; (1, N, C) to (1, H * W, C)."""
        if not self.size:
            return x
        size, rows, columns = self.size, self._rows, self._columns
        x = x.reshape(rows, columns, size, size, -1).transpose(1, 2)
        x = x.reshape(1, rows * size, columns * size, -1)[:, : self.height, : self.width]
        return x.reshape(1, self.height * self.width, -1)


class TracedTower(BEiT3):
    """The tower, with :class:`Windows`."""

    def token_layout(self, height: Any, width: Any) -> Any:
        """Lay out the tokens in whole windows."""
        return Windows(height, width, self.window_size if self._has_windows else 0)

    def _patch_positions(self, height: Tensor, width: Tensor) -> Tensor:
        table = self.pos_embed[:, self.cls_token is not None :].unflatten(1, self.grid_size)
        if self.tile_positions:
            rows, columns = (torch.arange(n) % self.window_size for n in (height, width))
            return table[:, rows][:, :, columns].flatten(1, 2)
        table = table.permute(0, 3, 1, 2)
        spread = F.interpolate(table, size=(height, width), mode="bicubic", align_corners=False)
        return spread.flatten(2).transpose(1, 2)

    def _run_layers(self, x: Tensor, layout: Any, width: Any, indexes: range) -> Tensor:
        for index in indexes:
            if index in self.global_attn_indexes:
                x = self.layers[index](x, ((1, -1),), None, layout.mask)
                continue
            mask = layout.mask.reshape(layout.windows, 1, 1, self.window_size**2)
            x = self.layers[index](x, ((layout.windows, -1),), None, mask)
        return x


class TracedAttention(Attention):
    """Attention of the tokens of one image, in one kind of windows."""

    def forward(
        self,
        x: Tensor,
        segments: Any,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within each window, to what ``mask`` does not leave out; (1, N, C)."""
        dims, ((windows, _),) = self.proj.in_features, segments
        qkv = self.qkv(x).reshape(windows, -1, 3, self.num_heads, dims // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, mask)
        return self.output(out.transpose(1, 2).reshape(1, -1, dims))


class TracedAdaptivePooling(nn.AdaptiveAvgPool2d):
    """Means over bins, as two products with matrices made for the size of the map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, bins, bins)."""
        size = self.output_size
        down, across = size if isinstance(size, tuple) else (size, size)
        return _bins(x.shape[-2], down) @ x @ _bins(x.shape[-1], across).T


def _bins(size: Tensor, bins: int) -> Tensor:
    """Weights (bins, size) of the cells in the mean of each bin."""
    index = torch.arange(bins)[:, None]
    first, end = index * size // bins, ((index + 1) * size + bins - 1) // bins
    cells = torch.arange(size)
    inside = ((cells >= first) & (cells < end)).float()
    return inside / inside.sum(1, keepdim=True)


class TracedMask2FormerHead(Mask2FormerHead):
    """Scores of all pixels at once."""

    def _score_pixels(self, classes: Tensor, masks: Tensor, size: tuple[Tensor, Tensor]) -> Tensor:
        masks = F.interpolate(
            masks, scale_factor=float(self.mask_stride), mode="bilinear", align_corners=False
        )
        masks = masks[:, :, : size[0], : size[1]].sigmoid()
        return torch.einsum("bqc,bqhw->bchw", classes, masks)


TRACED: dict[type, type] = {
    BEiT3: TracedTower,
    Attention: TracedAttention,
    nn.AdaptiveAvgPool2d: TracedAdaptivePooling,
    Mask2FormerHead: TracedMask2FormerHead,
}
