"""Objects that were found in overlapping tiles of an image, put together across the seams.

Objects of two tiles are one if they have the same class and their masks agree where the tiles
overlap: there the intersection over the union is at least 0.5. So an object that a seam cuts is
known by the part that both tiles see, and one that both see whole as a duplicate. No two objects of
one tile are joined; pairs are joined in the order of their IoU times the smaller of their scores.
Where a tile holds all of an object, with no edge of the tile in between, mask and box are those of
that tile, the surest of several; else the union of the masks and the box around the boxes. The
score is the highest. Of a detector without masks the boxes agree.

Masks are run-length codes of the whole image from the first on: union, intersection and IoU are
those of pycocotools, which take time and memory by the outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.ops.rle import encode_parts
from mmbeit3.utils.large_images import Window

#: Intersection over union in the overlap from which on two objects are one.
AGREEMENT = 0.5
INWARDS = np.array([1, 1, -1, -1])  # from the sides of a box


@dataclass
class Joined:
    """N objects, the surest first.

    Attributes:
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2, float32.
        labels (np.ndarray): (N,), int64.
        scores (np.ndarray): (N,), float32.
        codes (list[dict], optional): Their masks; None of a detector without.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    codes: list[dict[str, Any]] | None


@dataclass
class _Tile:
    """What was found in a tile, in pixels of the image, and the number of its first object."""

    window: Window
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    codes: list[dict[str, Any]] | None
    first: int


class Seams:
    """Takes what was found tile by tile, and joins it.

    Args:
        size (tuple[int, int]): Height and width of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._tiles: list[_Tile] = []
        self._pairs: list[tuple[float, int, int]] = []  # that agree: how much, and who
        self._number = 0

    def add(self, window: Window, found: DetectionResult) -> None:
        """Take the objects of a tile, in pixels of the tile."""
        offset = np.array([window.x, window.y] * 2, np.float32)
        codes = None
        if found.masks is not None:
            codes = encode_parts(found.masks, (window.y, window.x), self._size)
        boxes = found.boxes + offset
        tile = _Tile(window, boxes, found.labels, found.scores, codes, self._number)
        for earlier in self._tiles:
            zone = window.common(earlier.window)
            if zone.width and zone.height:
                self._compare(earlier, tile, zone)
        self._tiles.append(tile)
        self._number += len(found.labels)

    def _compare(self, one: _Tile, other: _Tile, zone: Window) -> None:
        """Note which objects of two tiles agree in the zone where the tiles overlap."""
        near = [np.flatnonzero((_clipped(tile.boxes, zone) > 0).all(1)) for tile in (one, other)]
        if not len(near[0]) or not len(near[1]):
            return
        if one.codes is None or other.codes is None:
            pairs = zip((one, other), near, strict=True)
            ious = _box_ious(*(_inside(tile.boxes[index], zone) for tile, index in pairs))
        else:
            ious = _mask_ious(one.codes, other.codes, near, zone, self._size)
        rows, columns = np.nonzero(ious >= AGREEMENT)
        first, second = near[0][rows], near[1][columns]
        same = one.labels[first] == other.labels[second]
        ious = ious[rows, columns][same]
        first, second = first[same], second[same]
        sure = ious * np.minimum(one.scores[first], other.scores[second])
        numbers = (first + one.first).tolist(), (second + other.first).tolist()
        self._pairs += zip(sure.tolist(), *numbers, strict=True)

    def joined(self) -> Joined:
        """Join what agrees."""
        owner = list(range(self._number))
        groups = {
            number: ([number], {place})
            for place, tile in enumerate(self._tiles)
            for number in range(tile.first, tile.first + len(tile.labels))
        }
        for _, one, other in sorted(self._pairs, key=lambda pair: (-pair[0], *pair[1:])):
            kept, gone = sorted((owner[one], owner[other]))
            if kept == gone or groups[kept][1] & groups[gone][1]:
                continue
            members, tiles = groups.pop(gone)
            groups[kept][0].extend(members)
            groups[kept][1].update(tiles)
            for member in members:
                owner[member] = kept
        return self._united([sorted(members) for members, _ in groups.values()])

    def _united(self, groups: list[list[int]]) -> Joined:
        tiles = self._tiles
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(tile.boxes for tile in tiles)])
        labels = np.concatenate([np.zeros(0, np.int64), *(tile.labels for tile in tiles)])
        scores = np.concatenate([np.zeros(0, np.float32), *(tile.scores for tile in tiles)])
        inner = [edges for tile in tiles for edges in [self._inner(tile.window)] * len(tile.labels)]
        parts = None
        if all(tile.codes is not None for tile in tiles):
            parts = [code for tile in tiles for code in tile.codes or ()]
        order = sorted(groups, key=lambda members: -scores[members].max())
        places, codes = [], []
        for members in order:
            around = np.r_[boxes[members, :2].min(0), boxes[members, 2:].max(0)]
            whole = [one for one in members if ((around - inner[one]) * INWARDS > 0).all()]
            best = max(whole or members, key=scores.__getitem__)
            kept = [best] if whole else members
            places.append(boxes[best] if whole else around)
            if parts is not None:
                one = parts[best]
                codes.append(coco_mask.merge([parts[i] for i in kept]) if len(kept) > 1 else one)
        return Joined(
            np.array(places, np.float32).reshape(-1, 4),
            labels[[members[0] for members in order]],
            np.array([scores[members].max() for members in order], np.float32),
            None if parts is None else codes,
        )

    def _inner(self, window: Window) -> np.ndarray:
        """The edges of a tile, x1 y1 x2 y2; infinite where they are those of the image."""
        height, width = self._size
        x, y, right, bottom = window.x, window.y, window.x + window.width, window.y + window.height
        return np.array(
            [
                x or -np.inf,
                y or -np.inf,
                np.inf if right == width else right,
                np.inf if bottom == height else bottom,
            ]
        )


def _inside(boxes: np.ndarray, zone: Window) -> np.ndarray:
    """The parts of boxes (N, 4) in a zone; turned over where there is none."""
    corner = np.array([zone.x, zone.y])
    ends = corner + [zone.width, zone.height]
    return np.hstack([np.maximum(boxes[:, :2], corner), np.minimum(boxes[:, 2:], ends)])


def _clipped(boxes: np.ndarray, zone: Window) -> np.ndarray:
    """Widths and heights, (N, 2), of the parts of boxes in a zone; not positive without."""
    parts = _inside(boxes, zone)
    return parts[:, 2:] - parts[:, :2]


def _box_ious(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The IoU, (N, M), of boxes (N, 4) and (M, 4) that have an area."""
    low = np.maximum(one[:, None, :2], other[:, :2])
    common = (np.minimum(one[:, None, 2:], other[:, 2:]) - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return common / (areas[0][:, None] + areas[1] - common)


def _mask_ious(
    one: list[dict[str, Any]],
    other: list[dict[str, Any]],
    near: list[np.ndarray],
    zone: Window,
    size: tuple[int, int],
) -> np.ndarray:
    """The IoU, (N, M), of masks in a zone; ``near`` picks N and M of them."""
    [area] = coco_mask.frPyObjects(np.array([zone], float), *size)
    clipped = [
        [coco_mask.merge([codes[index], area], intersect=True) for index in picked.tolist()]
        for codes, picked in zip((one, other), near, strict=True)
    ]
    return coco_mask.iou(clipped[0], clipped[1], [0] * len(clipped[1]))
