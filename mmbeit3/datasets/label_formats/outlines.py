"""Masks between their two forms, bitmaps and polygons, and outlines with fewer points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api

from mmbeit3.datasets.label_formats.labels import LabeledImage, LabeledObject, Labels, box_of
from mmbeit3.ops import encode_masks
from mmbeit3.utils import InputError

Point = tuple[int, int]
MAX_BITMAP = 2**28
TOLERANCE = 1.0  # pixels by which outlines that a person is to correct may be off


def encode(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of a mask (H, W), its counts as text."""
    code = encode_masks(mask[None])[0]
    return {"size": code["size"], "counts": code["counts"].decode()}


def rle_of(found: LabeledObject, image: LabeledImage) -> dict[str, Any]:
    """The RLE of an object's mask, as the COCO API makes it; without one, that of its box."""
    mask, size = found.mask, (image.height, image.width)
    if isinstance(mask, dict):
        if isinstance(mask["counts"], list):
            return mask_api.frPyObjects(mask, *size)
        return mask
    if mask is None:
        x1, y1, x2, y2 = found.box
        mask = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    return mask_api.merge(mask_api.frPyObjects(mask, *size))


def blank(image: LabeledImage) -> np.ndarray:
    """A mask (H, W), bool, without an object.

    Raises:
        InputError: It would be very large.
    """
    if image.width * image.height > MAX_BITMAP:
        raise InputError(
            f"{image.where or image.name}: the image is {image.width} x {image.height} pixels; "
            f"masks are drawn of {MAX_BITMAP:,} at most: give polygons of one part, or tiles"
        )
    return np.zeros((image.height, image.width), bool)


def bitmap(found: LabeledObject, image: LabeledImage) -> np.ndarray:
    """The mask of an object, (H, W), bool; see :func:`rle_of`."""
    blank(image)
    return mask_api.decode(rle_of(found, image)).astype(bool)


def rings_of(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of a bitmap along the edges of its pixels, exact.

    Args:
        mask: (H, W), bool.

    Returns:
        Of each part and each hole the corners, (N, 2), x and y; parts go around clockwise as the
        picture is seen, holes the other way. Pixels that touch at a corner are two parts.
    """
    if not mask.any():
        return []
    left, top, right, bottom = extent(mask)
    padded = np.pad(mask[top:bottom, left:right], 1)
    following = _edges(padded)
    rings = []
    while following:
        start: Point = next(iter(following))
        point = start
        step = following[start][0]
        ring: list[Point] = []
        while not ring or point != start or _right(step) in following.get(start, ()):
            steps, turn = following[point], _right(step)
            # Where two ways lead on, the right turn stays with its own part.
            step = turn if ring and turn in steps else steps[0]
            steps.remove(step)
            if not steps:
                del following[point]
            ring.append(point)
            point = (point[0] + step[0], point[1] + step[1])
        rings.append(_corners(np.array(ring)) + (left - 1, top - 1))
    return rings


def _right(step: Point) -> Point:
    return -step[1], step[0]


def _edges(mask: np.ndarray) -> dict[Point, list[Point]]:
    """From each point of the outlines the steps that lead on, with the object on the right."""
    following: dict[Point, list[Point]] = {}
    down, across = np.diff(mask.astype(np.int8), axis=0), np.diff(mask.astype(np.int8), axis=1)
    for found, offset, step in (
        (down == 1, (0, 1), (1, 0)),  # the upper side of a pixel
        (down == -1, (1, 1), (-1, 0)),
        (across == 1, (1, 1), (0, -1)),  # the left side
        (across == -1, (1, 0), (0, 1)),
    ):
        ys, xs = np.nonzero(found)
        for point in zip((xs + offset[0]).tolist(), (ys + offset[1]).tolist(), strict=True):
            following.setdefault(point, []).append(step)
    return following


def _corners(ring: np.ndarray) -> np.ndarray:
    """Leave out the points of a ring (N, 2) where it goes straight on."""
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    return ring[(before != after).any(1)]


def signed_area(ring: np.ndarray) -> float:
    """The area inside a ring (N, 2); below 0 where it goes counterclockwise: around a hole."""
    x, y = ring.T.astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def outlines(found: LabeledObject, image: LabeledImage) -> list[list[np.ndarray]]:
    """The parts of an object, each an outer ring and the rings of its holes, all (N, 2).

    Polygons stay as they are unless they overlap; bitmaps have outlines along their pixels.
    """
    if isinstance(found.mask, list):
        rings = [np.array(polygon, float).reshape(-1, 2) for polygon in found.mask]
        if len(rings) == 1 or not _overlap(rings):
            return [[ring] for ring in rings]
    rings = rings_of(bitmap(found, image))
    outer = [ring for ring in rings if signed_area(ring) > 0]
    parts = [[ring] for ring in outer]
    for hole in rings:
        if signed_area(hole) < 0:
            parts[_around(hole, outer)].append(hole)
    return parts


def _overlap(rings: Sequence[np.ndarray]) -> bool:
    """Whether the boxes of some rings overlap, as their insides then may."""
    low, high = (np.array([part(ring, 0) for ring in rings]) for part in (np.min, np.max))
    both = (low[:, None] < high).all(-1) & (high[:, None] > low).all(-1)
    return bool(both.sum() > len(rings))


def _around(hole: np.ndarray, outer: Sequence[np.ndarray]) -> int:
    """The index of the smallest ring that a hole lies in."""
    y = hole[:, 1].min()
    x = hole[hole[:, 1] == y, 0].min()
    inside = (float(x) + 0.5, float(y) + 0.5)  # its left upper pixel
    holding = [
        (signed_area(ring), index)
        for index, ring in enumerate(outer)
        if cv2.pointPolygonTest(ring.astype(np.float32), inside, False) > 0
    ]
    return min(holding)[1]


def one_ring(parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Join parts and holes to one ring by pairs of lines without an area, (N, 2).

    Ultralytics' own converter from COCO does so, for files that have one polygon an object.
    """
    from scipy.spatial import cKDTree  # which data sets do without

    rings = [ring.astype(float) for part in parts for ring in part]
    if len(rings) == 1:
        return rings[0]
    signs = [-1 if number else 1 for part in parts for number in range(len(part))]
    rings = [
        ring if sign * signed_area(ring) > 0 else ring[::-1]
        for ring, sign in zip(rings, signs, strict=True)
    ]
    trees = [cKDTree(ring) for ring in rings]
    joined, last = rings[0], 0
    # Of each ring that is left: its distance, where it is joined, and its own point there.
    nearest: dict[int, tuple[float, Any, int]] = dict.fromkeys(range(1, len(rings)), (inf, None, 0))
    while nearest:
        for index, known in nearest.items():
            distances, places = trees[last].query(rings[index])
            there = int(distances.argmin())
            if distances[there] < known[0]:
                nearest[index] = (distances[there], rings[last][places[there]], there)
        last = min(nearest, key=lambda index: nearest[index][0])
        _, point, there = nearest.pop(last)
        here = int((joined == point).all(1).argmax())
        way = np.roll(rings[last], -there, 0)
        joined = np.concatenate([joined[: here + 1], way, way[:1], joined[here:]])
    return joined


def simplified(labels: Labels) -> Labels:
    """The labels with the bitmaps of whole parts as polygons of few points, for people to correct.

    Outlines are off by :data:`TOLERANCE` at most. Masks with holes stay bitmaps.
    """

    def simple(found: LabeledObject, image: LabeledImage) -> LabeledObject:
        if not isinstance(found.mask, dict):
            return found
        parts = outlines(found, image)
        if not parts or any(len(part) > 1 for part in parts):
            return found
        polygons = []
        for (ring,) in parts:
            few = cv2.approxPolyDP(ring.astype(np.float32), TOLERANCE, True)[:, 0]
            polygons.append((few if len(few) > 2 else ring).astype(float).ravel().tolist())
        return replace(found, mask=polygons)

    images = [
        replace(image, objects=[simple(found, image) for found in image.objects])
        for image in labels.images
    ]
    return replace(labels, images=images)


def polygon_object(
    name: str, points: Sequence[Sequence[float]] | np.ndarray, **facts: Any
) -> LabeledObject:
    """An object of one polygon.

    Args:
        name: Its class.
        points: (N, 2).
        **facts: As of :class:`LabeledObject`.
    """
    polygon = [float(value) for point in points for value in point]
    return LabeledObject(name, box_of([polygon]), [polygon], **facts)


def bitmap_object(name: str, mask: np.ndarray) -> LabeledObject:
    """An object of a mask (H, W), bool, that is not empty."""
    left, top, right, bottom = extent(mask)
    return LabeledObject(name, (left, top, right, bottom), encode(mask))


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The first column and row of a mask (H, W), and those after the last.

    Raises:
        ValueError: It is empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("its mask is empty")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def ellipse(
    center: Sequence[float] | np.ndarray,
    radii: Sequence[float] | np.ndarray,
    degrees: float = 0.0,
    number: int = 64,
) -> np.ndarray:
    """The outline of an ellipse as so many points, (N, 2); of the same area."""
    angles = np.arange(number) * 2 * np.pi / number
    scale = (np.pi / (number / 2 * np.sin(2 * np.pi / number))) ** 0.5
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * scale * np.asarray(radii)
    return turned(points, degrees) + np.asarray(center)


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points (N, 2) after a clockwise turn about 0 0, as the picture is seen."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])
