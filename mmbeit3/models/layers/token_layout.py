"""The order in which a windowed transformer keeps its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """A window-by-window order of an (H, W) grid of tokens.

    Everything in an encoder layer but window attention is blind to the order of its tokens. So the
    tokens are put into this order once, before the first layer, and back once, after the last:
    every window is then a contiguous run, and no layer copies anything to partition or merge.

    A grid that ``window_size`` does not divide has smaller windows along its right and bottom
    edges, as if the windows were cut off there. No token is ever padding. (ViTDet pads such a grid
    with zeros that take part in attention: section 3 of arXiv 2203.16527 and its code.)

    Attributes:
        order (Tensor): (H * W,) int64, row-major index of the token at each place of the layout.
        inverse (Tensor): (H * W,) int64, place in the layout of each row-major token.
        segments (tuple[tuple[int, int], ...]): (number of windows, tokens in each), in order.
    """

    order: Tensor
    inverse: Tensor
    segments: tuple[tuple[int, int], ...]

    def arrange(self, x: Tensor) -> Tensor:
        """Put row-major tokens ``x`` (B, H * W, C) into window order."""
        return x if self.is_row_major else x[:, self.order.to(x.device)]

    def restore(self, x: Tensor) -> Tensor:
        """Undo :meth:`arrange`."""
        return x if self.is_row_major else x[:, self.inverse.to(x.device)]

    @property
    def is_row_major(self) -> bool:
        """Whether the layout is one window, and so the plain order."""
        return len(self.segments) == 1 and self.segments[0][0] == 1


def window_layout(height: int, width: int, window_size: int) -> TokenLayout:
    """Lay out a grid of ``height`` x ``width`` tokens in windows of ``window_size`` tokens a side.

    ``window_size`` 0 means one window over the whole grid (global attention only).
    """
    # The tensors of a trace have no content for who comes later.
    lay_out = kept_layout.__wrapped__ if torch.compiler.is_compiling() else kept_layout
    return lay_out(height, width, window_size)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the tensors are kept, and training cannot use those of inference
def kept_layout(height: int, width: int, window_size: int) -> TokenLayout:
    """As :func:`window_layout`, the same object for the same sizes."""
    index = torch.arange(height * width, device="cpu").view(height, width)
    if window_size == 0:
        parts = [index.view(1, -1)]
    else:
        parts = [
            _windows(rows_and_columns, window_size)
            for rows in _split(index, window_size, dim=0)
            for rows_and_columns in _split(rows, window_size, dim=1)
        ]
    order = torch.cat([part.flatten() for part in parts])
    return TokenLayout(
        order=order,
        inverse=torch.argsort(order),
        segments=tuple((part.shape[0], part.shape[1]) for part in parts),
    )


def _split(index: Tensor, window_size: int, dim: int) -> list[Tensor]:
    """Cut off what is left over after the whole windows along ``dim``."""
    size = index.shape[dim]
    whole = size - size % window_size
    return [part for part in index.split([whole, size - whole], dim) if part.numel()]


def _windows(index: Tensor, window_size: int) -> Tensor:
    """(h, w) -> (number of windows, tokens in each); sides divide or are smaller than a window."""
    height, width = index.shape
    win_h, win_w = min(window_size, height), min(window_size, width)
    index = index.view(height // win_h, win_h, width // win_w, win_w)
    return index.permute(0, 2, 1, 3).reshape(-1, win_h * win_w)
