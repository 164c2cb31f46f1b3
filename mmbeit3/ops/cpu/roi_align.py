"""RoIAlign for inference on the CPU, where torchvision's kernel is slow.

A bilinear sample on a grid along the axes is separable: each cell of the output is a weighted sum
of a rectangle of rows and columns of the map. With the map as a table of pixels, each one the row
of its channels, that sum is what ``embedding_bag`` computes, vectorised and on all threads. Samples
that lie at most a pixel apart share their neighbors: s x s samples read (s + 1) x (s + 1) pixels,
where torchvision reads 4 s x s, and goes through the map once for every channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels that are gathered in one go; an index and a weight of 4 bytes each are made for each.
_MAX_PIXELS = 1 << 20

# A cell of more samples along an axis is so large that its average is all but zero.
_MAX_SAMPLES = 1 << 20


@torch.no_grad()
def multi_level_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """``torchvision.ops.roi_align`` for the levels of a pyramid, without gradient, on the CPU.

    Half precision is pooled in float32.

    Args:
        features (Sequence[Tensor]): A map (B, C, H_l, W_l) for each level. Channels-last memory is
            read in place; another format is copied first.
        rois (Tensor): (K, 5), the image's index in the batch and x1, y1, x2, y2.
        levels (Tensor): (K,), int64, the level to pool each RoI from.
        output_size (tuple[int, int]): Height and width of the output.
        spatial_scales (Sequence[float]): Pixels of each map for one unit of the boxes.
        sampling_ratio (int): Samples for each output cell along an axis; with 0 or less as many as
            it has pixels of the map, rounded up. Defaults to 0.
        aligned (bool): Whether the first pixel's center is at 0.5 and not at 0. Defaults to True.

    Returns:
        Tensor: (K, C, height, width) in the dtype of ``features`` and channels-last memory. Zeros
        for a RoI that is not finite, or millions of pixels long, or of a level that there is not,
        and with ``sampling_ratio=0`` for one without extent.
    """
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    output = rois.new_empty((len(rois), *output_size, features[0].shape[1]), dtype=dtype)
    left_out = torch.ones(len(rois), dtype=torch.bool)
    for level, (feature, scale) in enumerate(zip(features, spatial_scales, strict=True)):
        ids = (levels == level).nonzero()[:, 0]
        boxes = rois[ids, 1:].to(dtype) * scale - (0.5 if aligned else 0.0)
        axes = [
            _Axis.of(boxes[:, i], boxes[:, i + 2], bins, size, sampling_ratio, aligned)
            for i, bins, size in zip((1, 0), output_size, feature.shape[2:], strict=True)
        ]
        order = _by_size(axes)
        if not len(order):
            continue
        ids, axes = ids[order], [axis.select(order) for axis in axes]
        left_out[ids] = False
        table = _as_table(feature.to(dtype))
        for part in _parts(axes):
            images = rois[ids[part], 0].long()
            output.index_copy_(0, ids[part], _pool(table, images, [a.select(part) for a in axes]))
    output.index_fill_(0, left_out.nonzero()[:, 0], 0)
    return output.permute(0, 3, 1, 2).to(features[0].dtype)


@dataclass
class _Axis:
    """Where K RoIs are sampled along y or x, in pixels of the map.

    Attributes:
        bins: Cells of the output.
        size: Pixels of the map.
        starts: (K,), where the first cell begins.
        steps: (K,), size of a cell.
        counts: (K,), int64, samples in a cell; 0 where a RoI is left out.
        dense: Whether the samples of a cell lie at most a pixel apart.
    """

    bins: int
    size: int
    starts: Tensor
    steps: Tensor
    counts: Tensor
    dense: bool

    @classmethod
    def of(
        cls, low: Tensor, high: Tensor, bins: int, size: int, sampling_ratio: int, aligned: bool
    ) -> _Axis:
        """From the ends ``low`` and ``high`` (K,) of the RoIs."""
        steps = (high - low if aligned else (high - low).clamp(min=1)) / bins
        dense = sampling_ratio <= 0
        counts = steps.ceil() if dense else torch.full_like(steps, sampling_ratio)
        usable = (low + steps).isfinite() & (counts > 0) & (counts < _MAX_SAMPLES)
        return cls(bins, size, low, steps, counts.where(usable, 0).long(), dense)

    def select(self, ids: Tensor | slice) -> _Axis:
        """The RoIs ``ids``."""
        starts, steps, counts = self.starts[ids], self.steps[ids], self.counts[ids]
        return _Axis(self.bins, self.size, starts, steps, counts, self.dense)

    @property
    def widths(self) -> Tensor:
        """(K,), the number of pixels that make up a cell of the output."""
        return (self.counts + 1).clamp(max=self.size) if self.dense else self.counts * 2

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Index and weight (K, bins, widest) of the pixels that make up each cell.

        Beyond the ``widths`` of a RoI they mean nothing.
        """
        samples = torch.arange(int(self.counts.max())).to(self.steps)
        counts, steps = self.counts[:, None, None], self.steps[:, None, None]
        # in the order of torchvision's sums, so that they round to the same pixel
        bins = torch.arange(self.bins).to(steps)[:, None] * steps + self.starts[:, None, None]
        places = bins + (samples + 0.5) * steps / counts
        weights = ((places >= -1) & (places <= self.size) & (samples < counts)) / counts.to(steps)
        places = places.clamp(0, self.size - 1)
        low = places.long()
        high = (places - low) * weights
        weights = torch.cat((weights - high, high), dim=2)
        pixels = torch.cat((low, (low + 1).clamp(max=self.size - 1)), dim=2)
        return self._merged(low[:, :, :1], pixels, weights) if self.dense else (pixels, weights)

    def _merged(self, first: Tensor, pixels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the weights of each pixel from the ``first`` (K, bins, 1) on."""
        widths = self.widths[:, None, None]
        first = torch.minimum(first, self.size - widths)
        # Rounding may put the last pixel one further on, with next to no weight.
        offsets = torch.minimum(pixels - first, widths - 1)
        widest = torch.arange(int(widths.max()))
        sums = weights.new_zeros((*first.shape[:2], len(widest)))
        return first + widest, sums.scatter_add_(2, offsets, weights)


def _as_table(features: Tensor) -> Tensor:
    """The pixels of (B, C, H, W) as (B * H * W, C); a view of channels-last memory."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).contiguous()


def _by_size(axes: list[_Axis]) -> Tensor:
    """Order of the RoIs that have samples: the small ones first, those of one size together."""
    height, width = (axis.widths for axis in axes)
    key = (torch.maximum(height, width) * (axes[0].size + 1) + height) * (axes[1].size + 1) + width
    kept = torch.minimum(axes[0].counts, axes[1].counts).nonzero()[:, 0]
    return kept[key[kept].argsort()]


def _parts(axes: list[_Axis]) -> Iterator[slice]:
    """Divide RoIs in the order of their size, such that the memory of a part is bounded."""
    cells, begin, most = axes[0].bins * axes[1].bins, 0, 0
    counts = torch.maximum(axes[0].counts, axes[1].counts).tolist()
    for end, count in enumerate(counts):
        most = max(most, count)
        if end > begin and (end + 1 - begin) * cells * (most + 1) ** 2 > _MAX_PIXELS:
            yield slice(begin, end)
            begin, most = end, count
    yield slice(begin, len(counts))


def _pool(table: Tensor, images: Tensor, axes: list[_Axis]) -> Tensor:
    """Pool the K RoIs of ``axes`` to (K, bins, bins, C)."""
    rows, row_weights = axes[0].pixels()
    columns, column_weights = axes[1].pixels()
    rows = (images[:, None, None] * axes[0].size + rows) * axes[1].size
    shapes = list(zip(*(axis.widths.tolist() for axis in axes), strict=True))
    pixels = _outer(rows.int(), columns.int(), torch.add, shapes)
    weights = _outer(row_weights, column_weights, torch.mul, shapes)
    bins = (axes[0].bins, axes[1].bins)
    lengths = axes[0].widths * axes[1].widths
    ends = lengths.repeat_interleave(bins[0] * bins[1]).cumsum(0, dtype=torch.int32)
    offsets = torch.cat((ends.new_zeros(1), ends))
    sums = F.embedding_bag(
        pixels,
        table,
        offsets,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )
    return sums.view(-1, *bins, table.shape[1])


def _outer(
    rows: Tensor,
    columns: Tensor,
    combine: Callable[[Tensor, Tensor], Tensor],
    shapes: list[tuple[int, int]],
) -> Tensor:
    """Combine the rows and columns of each output cell, of which there are ``shapes``.

    RoIs of one shape must follow each other.

    Args:
        rows (Tensor): (K, bins, highest).
        columns (Tensor): (K, bins, widest).
        combine (Callable): ``torch.add`` or ``torch.mul``.
        shapes (list[tuple[int, int]]): For each RoI how many rows and columns count.

    Returns:
        Tensor: One-dimensional, RoI by RoI, cell by cell, row by row.
    """
    parts, begin = [], 0
    for (height, width), members in groupby(shapes):
        end = begin + sum(1 for _ in members)
        cells = columns[begin:end, None, :, None, :width]
        parts.append(combine(rows[begin:end, :, None, :height, None], cells).flatten())
        begin = end
    return torch.cat(parts)
