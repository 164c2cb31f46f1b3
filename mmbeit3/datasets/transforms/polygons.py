"""Cropping objects whose masks are polygons."""

from __future__ import annotations

import numpy as np
from mmdet.datasets.transforms import RandomCrop
from mmdet.structures.mask import PolygonMasks

from mmbeit3.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PolygonRandomCrop(RandomCrop):
    """``mmdet.RandomCrop`` that works only on the polygons which the border of the crop cuts.

    mmdet hands every polygon to shapely. The crops are the same, but polygons that lie inside keep
    their points as annotated: mmdet repairs those that cross themselves, and may lose a part of
    them. Bitmaps are cropped as mmdet does it.

    Args: As ``mmdet.RandomCrop``.
    """

    def transform(self, results: dict) -> dict | None:
        """Crop the image, boxes, masks and the semantic map.

        Args:
            results: As ``mmdet.RandomCrop`` requires them.

        Returns:
            ``results``, or None if the crop has no box and ``allow_negative_crop`` is False.
        """
        masks = results.get("gt_masks")
        if isinstance(masks, PolygonMasks):
            results["gt_masks"] = _QuickPolygons(masks.masks, masks.height, masks.width)
        return super().transform(results)


class _QuickPolygons(PolygonMasks):
    """Polygons whose crop leaves to shapely those on its border; the result is of mmdet's class."""

    def __getitem__(self, index: np.ndarray | list | int) -> _QuickPolygons:
        chosen = super().__getitem__(index)
        return _QuickPolygons(chosen.masks, chosen.height, chosen.width)

    def crop(self, bbox: np.ndarray) -> PolygonMasks:
        """Cut out a box and move the origin to its corner.

        Args:
            bbox: (4,) x0, y0, x1, y1 in pixels.
        """
        polygons = [polygon for parts in self.masks for polygon in parts]
        if not polygons:
            return super().crop(bbox)
        size = np.array([self.width, self.height])
        start, end = bbox[:2].clip(0, size), bbox[2:].clip(0, size)
        low, high = _bounds(polygons)
        is_inside = ((low >= start) & (high <= end)).all(axis=1)
        is_apart = ((low >= end) | (high <= start)).any(axis=1)
        pieces: list[list[np.ndarray]] = [[] for _ in polygons]
        for index in np.flatnonzero(is_inside):
            pieces[index] = [(polygons[index].reshape(-1, 2) - start).astype(np.float64).ravel()]
        cut = np.flatnonzero(~is_inside & ~is_apart)
        on_border = PolygonMasks([[polygons[index]] for index in cut], self.height, self.width)
        for index, parts in zip(cut, on_border.crop(bbox), strict=True):
            pieces[index] = [part for part in parts if part.any()]  # none left: mmdet gives zeros
        width, height = np.maximum(end - start, 1)
        return PolygonMasks(_regroup(pieces, self.masks), height, width)


def _bounds(polygons: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest x, y of each of N polygons, each (N, 2)."""
    points = np.concatenate(polygons).reshape(-1, 2)
    starts = np.cumsum([0, *(len(polygon) // 2 for polygon in polygons[:-1])])
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def _regroup(pieces: list[list[np.ndarray]], masks: list[list]) -> list[list[np.ndarray]]:
    """Put what is left of each polygon together by object; a point at the origin for nothing."""
    following = iter(pieces)
    objects = ([part for _ in parts for part in next(following)] for parts in masks)
    return [parts or [np.zeros(6)] for parts in objects]
