"""The masks of a detector, from the small maps of its mask head to the pixels of the image."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels that are computed in one go, in float32.
_MAX_PIXELS = 1 << 18


@torch.no_grad()
def paste_masks(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5
) -> Tensor:
    """Enlarge masks to their boxes, and write them into images of zeros.

    Bilinear, as mmdet's ``FCNMaskHead`` does it on the CPU: a mask covers its box and ends half a
    mask pixel outside of it, and nothing is written more than two pixels outside of the box.

    Args:
        masks (Tensor): (N, h, w), probabilities.
        boxes (Tensor): (N, 4) as (x1, y1, x2, y2), in pixels of the image; they may reach out of
            it, or lie outside.
        height (int): Height H of the image.
        width (int): Width W of the image.
        threshold (float): The least probability of a mask's pixels; if negative the probabilities
            are returned, from 0 to 255. Defaults to 0.5.

    Returns:
        Tensor: (N, H, W), bool; uint8 with a negative threshold.
    """
    dtype = torch.uint8 if threshold < 0 else torch.bool
    images = _zeros((len(masks), height, width), dtype, masks.device)
    windows = _windows(boxes.float(), height, width)
    sizes = [_computed_size(window, masks.device) for window in windows]
    # Masks of one size follow each other, and are computed together.
    order = sorted((i for i, size in enumerate(sizes) if min(size) > 0), key=sizes.__getitem__)
    sizes, windows = [sizes[i] for i in order], [windows[i] for i in order]
    targets = [images[i, y1:y2, x1:x2] for i, (x1, y1, x2, y2) in zip(order, windows, strict=True)]
    # a frame of zeros, which is what lies outside of a mask; its columns first
    tables = F.pad(masks[order].float(), (1, 1, 1, 1)).transpose(1, 2).contiguous()
    boxes = boxes[order].float()
    columns = _places(boxes[:, 0::2], [window[0::2] for window in windows], masks.shape[2])
    rows = _places(boxes[:, 1::2], [window[1::2] for window in windows], masks.shape[1])
    begin = 0
    for (tall, wide), members in groupby(sizes):
        end = begin + len(list(members))
        across = [part[begin:end, :wide] for part in columns]
        down = [part[begin:end, :tall] for part in rows]
        _fill(targets[begin:end], tables[begin:end], across, down, threshold)
        begin = end
    return images


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy leaves it to the system to clear the memory where something is written; torch clears
    # all of it, half a second for a hundred masks of a large photograph.
    return torch.from_numpy(np.zeros(shape, bool if dtype == torch.bool else np.uint8))


def _windows(boxes: Tensor, height: int, width: int) -> list[list[int]]:
    """The pixels (x1, y1, x2, y2) of the image that each box (N, 4) can reach; maybe none."""
    low = (boxes[:, :2].floor() - 1).clamp(min=0)
    high = torch.minimum(boxes[:, 2:].ceil() + 1, boxes.new_tensor((width, height)))
    return torch.cat((low, high), dim=1).nan_to_num(0).long().tolist()


def _computed_size(window: list[int], device: torch.device) -> tuple[int, int]:
    """Height and width of the pixels to compute for a window.

    A CPU computes none in vain. A GPU rather computes up to four times as many than to be told of
    every mask.
    """
    size = window[3] - window[1], window[2] - window[0]
    if device.type == "cpu" or min(size) <= 0:
        return size
    return 1 << (size[0] - 1).bit_length(), 1 << (size[1] - 1).bit_length()


def _places(ends: Tensor, windows: list[list[int]], size: int) -> tuple[Tensor, Tensor]:
    """Where the pixels of a window lie in their mask, along one axis.

    Args:
        ends (Tensor): (N, 2), where the boxes begin and end.
        windows (list[list[int]]): The first pixel of each window, and the one after the last.
        size (int): Pixels of a mask.

    Returns:
        tuple[Tensor, Tensor]: (N, longest), int64, the pixel before in a mask with a frame of one,
        and how far from that to the next.
    """
    begins = ends.new_tensor([begin for begin, _ in windows])
    longest = max((end - begin for begin, end in windows), default=0)
    centers = begins[:, None] + torch.arange(longest, device=ends.device) + 0.5
    begins, ends = ends.split(1, dim=1)
    # In the order of mmdet's sums, so that they round alike; the middle is what it takes of a box
    # without extent.
    places = (centers - begins) / (ends - begins) * 2 - 1
    places = places.masked_fill(places.isinf(), 0)
    places = ((places + 1) * (size / 2) - 0.5).clamp(-1, size).nan_to_num(-1)
    before = places.floor().clamp(max=size - 1)
    return before.long() + 1, places - before


def _fill(
    targets: list[Tensor],
    tables: Tensor,
    columns: list[Tensor],
    rows: list[Tensor],
    threshold: float,
) -> None:
    """Fill the windows ``targets`` of n masks ``tables`` (n, w + 2, h + 2), columns first."""
    wide = _blend(tables, *columns).transpose(1, 2).contiguous()
    step = max(1, _MAX_PIXELS // wide[:, 0].numel())
    for begin in range(0, rows[0].shape[1], step):
        part = slice(begin, begin + step)
        for values, target in zip(_blend(wide, *(x[:, part] for x in rows)), targets, strict=True):
            pixels = target[part]
            values = values[: pixels.shape[0], : pixels.shape[1]]
            if threshold < 0:
                pixels.copy_(values * 255)
            else:
                torch.ge(values, threshold, out=pixels)


def _blend(tables: Tensor, before: Tensor, fractions: Tensor) -> Tensor:
    """Interpolate between the rows of each table (n, rows, width) to (n, length, width)."""
    number, rows, width = tables.shape
    starts = torch.arange(0, number * rows, rows, device=tables.device)
    index, table = (before + starts[:, None]).flatten(), tables.flatten(0, 1)
    values = table.index_select(0, index)
    values.lerp_(table.index_select(0, index + 1), fractions.reshape(-1, 1))
    return values.view(number, -1, width)
