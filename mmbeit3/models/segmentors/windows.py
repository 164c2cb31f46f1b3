"""Means of the scores of overlapping windows, in a strip that moves down the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mmbeit3.models.segmentors.bands import rows_per_band
from mmbeit3.utils import InputError


class Side:
    """The windows along one side of an image: every ``stride`` pixels, the last one at the end.

    Args:
        size (int): Length of the side, in pixels.
        crop (int): That of the windows; they are no longer than the side.
        stride (int): From the start of a window to that of the next, in pixels.

    Raises:
        InputError: If the windows leave gaps.
    """

    def __init__(self, size: int, crop: int, stride: int) -> None:
        self.size, self.crop = size, min(crop, size)
        last = size - self.crop
        self.starts = [*range(0, last, stride), last]
        #: (size,) how many windows hold each pixel
        self.counts = torch.zeros(size)
        for start in self.starts:
            self.counts[start : start + self.crop] += 1
        if not self.counts.all():
            raise InputError(
                f"test_cfg: windows of {crop} pixels leave gaps with a stride of {stride}"
            )


class Strip:
    """Sums of scores where windows are still to come: one row of windows, as wide as the image.

    Windows are added from left to right, each row of them below the one before. One image may
    follow another.

    Args:
        rows (Side): The vertical side of the image.
        columns (Side): The horizontal one.
    """

    def __init__(self, rows: Side, columns: Side) -> None:
        self._rows, self._columns = rows, columns
        self._sum = torch.zeros(0)  # (num_classes, crop, W), from the row _top of the image
        self._top = 0

    def add(self, left: int, scores: Tensor) -> None:
        """Add the scores (num_classes, crop, crop) of the window whose left edge is ``left``."""
        if not len(self._sum):
            self._sum = self._zeros(scores)
        self._sum[:, :, left : left + self._columns.crop] += scores

    def finish(self) -> Iterator[Tensor]:
        """Yield the means (num_classes, rows, W) above the next row of windows, and go there."""
        below = [start for start in self._rows.starts if start > self._top]
        end = below[0] if below else self._rows.size
        yield from self._means(end - self._top)
        if below:
            self._move(end - self._top)
            self._top = end
        else:
            self._sum, self._top = torch.zeros(0), 0

    def _means(self, height: int) -> Iterator[Tensor]:
        row_bytes = self._sum[:, 0].numel() * self._sum.element_size()
        step = rows_per_band(row_bytes, self._sum.device)
        down = self._rows.counts[self._top :].to(self._sum)
        across = self._columns.counts.to(self._sum)
        for begin in range(0, height, step):
            end = min(begin + step, height)
            yield self._sum[:, begin:end] / (down[begin:end, None] * across)

    def _move(self, shift: int) -> None:
        """Move all rows up, in steps that do not overlap: a copy of the strip may be large."""
        kept = self._rows.crop - shift
        for begin in range(0, kept, shift):
            end = min(begin + shift, kept)
            self._sum[:, begin:end] = self._sum[:, begin + shift : end + shift]
        self._sum[:, kept:] = 0

    def _zeros(self, scores: Tensor) -> Tensor:
        """Zeros in float32 or better, laid out as the scores are: adding up is faster then."""
        shape = (len(scores), self._rows.crop, self._columns.size)
        dtype = torch.promote_types(scores.dtype, torch.float32)
        if scores.stride(0) > 1:
            return scores.new_zeros(shape, dtype=dtype)
        return scores.new_zeros((*shape[1:], shape[0]), dtype=dtype).permute(2, 0, 1)
