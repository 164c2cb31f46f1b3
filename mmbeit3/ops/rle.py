"""Masks as COCO's run-length codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """``pycocotools.mask.encode`` of every mask, in less time where a mask covers little.

    pycocotools goes through each pixel, and wants the columns one after the other in memory. Here
    only the rectangle around a mask is searched, for the pixels where a column changes.

    Args:
        masks (np.ndarray): (N, H, W), bool, or numbers of which all but 0 are the mask.

    Returns:
        list[dict[str, Any]]: ``size`` [H, W] and ``counts``, bytes, for each mask.
    """
    height, width = masks.shape[1:]
    runs = [_run_lengths(mask.astype(bool, copy=False), (height, width)) for mask in masks]
    return _compressed(runs, (height, width))


def encode_parts(
    masks: np.ndarray, corner: tuple[int, int], size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Encode masks of a part of an image as masks of the image, which need not fit into memory.

    Args:
        masks (np.ndarray): (N, h, w), bool.
        corner (tuple[int, int]): The first row and column of the part.
        size (tuple[int, int]): Height and width of the image.

    Returns:
        list[dict[str, Any]]: As :func:`encode_masks`.
    """
    return _compressed([_run_lengths(mask, size, *corner) for mask in masks], size)


def decode_part(code: dict[str, Any], box: tuple[int, int, int, int]) -> np.ndarray:
    """Decode a rectangle of a mask alone.

    Args:
        code (dict): ``size`` and ``counts``, as :func:`encode_masks` returns them.
        box (tuple[int, int, int, int]): First column and row, width and height.

    Returns:
        np.ndarray: (h, w), bool.
    """
    from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE  # brings matplotlib along

    x, y, width, height = box
    rows = code["size"][0]
    [runs] = toUncompressedRLE([code])
    ends = np.cumsum(runs["counts"], dtype=np.int64)
    part = np.zeros((width, height), bool)
    for start, stop in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=False):
        first, last = max(0, start // rows - x), min(width - 1, (stop - 1) // rows - x)
        for column in range(first, last + 1):
            top = (x + column) * rows + y
            part[column, max(0, start - top) : max(0, stop - top)] = True
    return part.T


def _compressed(runs: list[np.ndarray], size: tuple[int, int]) -> list[dict[str, Any]]:
    codes = [{"size": list(size), "counts": lengths} for lengths in runs]
    return coco_mask.frPyObjects(codes, *size) if codes else []


def _run_lengths(
    mask: np.ndarray, size: tuple[int, int], above: int = 0, left: int = 0
) -> np.ndarray:
    """Lengths of the runs of 0, 1, 0, ..., column by column, in an image of which mask is a part.

    The part (h, w) lies below ``above`` rows and right of ``left`` columns.
    """
    height, total = size[0], size[0] * size[1]
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return np.array([total])
    top, bottom = rows[0], rows[-1] + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    crop = mask[top:bottom, columns[0] : columns[-1] + 1]
    row, column = np.divmod(np.flatnonzero(_changes(crop, height)), crop.shape[1])
    starts = np.sort((left + columns[0] + column) * height + above + top + row)
    lengths = np.diff(starts, prepend=0, append=total)
    return lengths if lengths[-1] else lengths[:-1]


def _changes(crop: np.ndarray, height: int) -> np.ndarray:
    """Where a column begins, ends or changes: (h + 1, w) of a part (h, w) of ``height`` rows."""
    changes = np.empty((len(crop) + 1, crop.shape[1]), dtype=bool)
    changes[0], changes[-1] = crop[0], crop[-1]
    np.not_equal(crop[1:], crop[:-1], out=changes[1:-1])
    if len(crop) == height:  # what ends a column and begins the next goes on
        changes[0, 1:] ^= changes[-1, :-1]
        changes[-1, :-1] = False
    return changes
