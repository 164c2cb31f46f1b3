"""Scores at the size of the original image, a band of rows after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.models.segmentors.bands import rows_per_band


class RowResizer:
    """Give the scores of an image its own size, while their rows come from top to bottom.

    What mmseg's ``postprocess_result`` does with all scores at once: it cuts the padding off,
    undoes the flip, and resizes bilinearly. Here the rows that are finished go on at once, and only
    those are held that the next need.

    Args:
        size (tuple[int, int]): Height and width of the scores, in pixels, with padding.
        meta (Mapping[str, Any]): Of the image: ``ori_shape`` (H, W); ``img_padding_size`` or else
            ``padding_size``, (left, right, top, bottom) in pixels, by default none; ``flip`` and
            ``flip_direction``.
        align_corners (bool): As in ``torch.nn.functional.interpolate``.
        device (torch.device): Where the scores are.

    Raises:
        ValueError: If the image is flipped in a direction that is not known.
    """

    def __init__(
        self,
        size: tuple[int, int],
        meta: Mapping[str, Any],
        align_corners: bool,
        device: torch.device,
    ) -> None:
        padding = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        left, right, top, bottom = padding
        self._inside = (slice(top, size[0] - bottom), slice(left, size[1] - right))
        source = (size[0] - top - bottom, size[1] - left - right)
        self._target = tuple(meta["ori_shape"])
        self._resizes = source != self._target
        self._align_corners = align_corners
        direction = meta.get("flip_direction") if meta.get("flip") else None
        if direction not in (None, "horizontal", "vertical"):
            raise ValueError(f"flip_direction is {direction!r}, expected horizontal or vertical")
        self._mirrored, self._upside_down = direction == "horizontal", direction == "vertical"
        self._make_tables(source[0], device)
        self._seen = 0  # rows that came, padding included
        self._pixels = torch.zeros(0)  # (rows, W, num_classes) that are still needed
        self._first = 0  # the row of the source that comes first in _pixels
        self._done = 0  # rows that went on

    def feed(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Take the next rows; yield what is finished.

        Args:
            rows (Tensor): (num_classes, rows, W), any number of rows.

        Yields:
            tuple[slice, Tensor]: Rows of the original image, and their scores
            (num_classes, rows, W) in float32 or better. An image that is upside down comes from the
            bottom up.
        """
        self._append(rows)
        if not len(self._pixels):
            return
        last = self._first + len(self._pixels) - 1
        ready = int(torch.searchsorted(self._needed, last, right=True))
        pixel_bytes = self._pixels.shape[-1] * self._pixels.element_size()
        step = rows_per_band(self._target[1] * pixel_bytes, rows.device)
        while self._done < ready:
            end = min(self._done + step, ready)
            yield self._band(self._done, end)
            self._done = end
        self._forget()

    def _make_tables(self, height: int, device: torch.device) -> None:
        """Note from which two rows of the source every row of the target is made."""
        lower, upper, weight = source_rows(height, self._target[0], self._align_corners)
        if self._upside_down:
            lower, upper = height - 1 - lower, height - 1 - upper
        # Rows of the source, in the order in which the rows of the target are finished.
        first, last = torch.minimum(lower, upper), torch.maximum(lower, upper)
        self._oldest, self._needed = (
            (t.flip(0) if self._upside_down else t).contiguous() for t in (first, last)
        )
        tables = lower, upper, weight[:, None, None]
        self._lower, self._upper, self._weight = (t.to(device, non_blocking=True) for t in tables)

    def _append(self, rows: Tensor) -> None:
        """Add the rows to those that are held, without padding."""
        inside, columns = self._inside
        begin, end = (
            min(max(r - self._seen, 0), rows.shape[1]) for r in (inside.start, inside.stop)
        )
        self._seen += rows.shape[1]
        if begin == end:
            return
        dtype = torch.promote_types(rows.dtype, torch.float32)
        pixels = rows[:, begin:end, columns].permute(1, 2, 0).to(dtype)
        self._pixels = torch.cat([self._pixels, pixels]) if len(self._pixels) else pixels

    def _band(self, begin: int, end: int) -> tuple[slice, Tensor]:
        """Return a band by its numbers in the order of finishing."""
        height = self._target[0]
        place = slice(height - end, height - begin) if self._upside_down else slice(begin, end)
        pixels = (
            self._resize(place, int(self._oldest[begin]), int(self._needed[end - 1]) + 1)
            if self._resizes
            else self._copy(begin, end)
        )
        return place, pixels.permute(2, 0, 1)

    def _copy(self, begin: int, end: int) -> Tensor:
        pixels = self._pixels[begin - self._first : end - self._first]
        turned = [axis for axis, turn in enumerate((self._upside_down, self._mirrored)) if turn]
        return pixels.flip(turned) if turned else pixels

    def _resize(self, place: slice, first: int, end: int) -> Tensor:
        """Make the rows at ``place`` from those of the source from ``first`` to ``end``."""
        # With the classes last in memory, everything is several times as fast.
        pixels = self._pixels[first - self._first : end - self._first].contiguous()
        pixels = torch.lerp(
            pixels.index_select(0, self._lower[place] - first),
            pixels.index_select(0, self._upper[place] - first),
            self._weight[place].to(pixels),
        )
        if self._mirrored:
            pixels = pixels.flip(1)
        images = F.interpolate(
            pixels[None].permute(0, 3, 1, 2),  # so PyTorch sees that the classes are last
            (len(pixels), self._target[1]),
            mode="bilinear",
            align_corners=self._align_corners,
        )
        return images[0].permute(1, 2, 0)

    def _forget(self) -> None:
        """Let go of the rows that no later band is made from."""
        end = self._first + len(self._pixels)
        first = int(self._oldest[self._done]) if self._done < self._target[0] else end
        first = min(first, end)
        # A copy, so that no view keeps the memory of the rest.
        self._pixels = self._pixels[first - self._first :].clone()
        self._first = first


def source_rows(source: int, target: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of rows that bilinear resizing mixes.

    Positions are computed in float32, as ``torch.nn.functional.interpolate`` does.

    Args:
        source (int): Number of rows before.
        target (int): Number of rows after.
        align_corners (bool): As in ``torch.nn.functional.interpolate``.

    Returns:
        tuple[Tensor, Tensor, Tensor]: For each row after, (target,): a row before, the next one,
        and the share of the latter, in 0..1.
    """
    rows = torch.arange(target, dtype=torch.float32)
    if align_corners:
        position = rows * ((source - 1) / max(target - 1, 1))
    else:
        position = ((rows + 0.5) * (source / target) - 0.5).clamp(min=0)
    lower = position.long().clamp(max=source - 1)
    return lower, (lower + 1).clamp(max=source - 1), (position - lower).clamp(0, 1)
