"""Outlines of objects for maps: GeoJSON, in degrees of longitude and latitude (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from mmbeit3.ops.rle import decode_part
from mmbeit3.utils.large_images import Georeference

if TYPE_CHECKING:
    from mmbeit3.inference.detection_result import DetectionResult

DIGITS = 9  # of a degree: 0.1 mm
CRS = "EPSG:4326"


def feature_lines(found: DetectionResult, place: Georeference) -> Iterator[bytes]:
    """Make a feature collection of objects, one a line: of their masks, else of their boxes.

    Args:
        found (DetectionResult): The objects; one with an empty mask is left out.
        place (Georeference): Where the image lies.

    Yields:
        bytes: The lines.
    """
    yield b'{"type": "FeatureCollection", "features": [\n'
    separator = b""
    codes = found.codes
    for index, name in enumerate(found.names):
        shape = _box(found.boxes[index]) if codes is None else _outline(codes[index])
        if shape is None:
            continue
        properties = {
            "class": name,
            "category_id": int(found.labels[index]) + 1,
            "score": round(float(found.scores[index]), 6),
        }
        geometry = _on_earth(shape, place)
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        yield separator + json.dumps(feature).encode()
        separator = b",\n"
    yield b"\n]}\n"


def _box(box: np.ndarray) -> dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    ring = [(x1, y1), (x1, y2), (x2, y2), (x2, y1), (x1, y1)]
    return {"type": "Polygon", "coordinates": [ring]}


def _outline(code: dict[str, Any]) -> dict[str, Any] | None:
    """The edges of the pixels of a mask; None if it is empty."""
    from rasterio.features import shapes
    from rasterio.transform import Affine

    x, y, width, height = (int(side) for side in coco_mask.toBbox(code))
    if not width:
        return None
    mask = decode_part(code, (x, y, width, height))
    moved = Affine.translation(x, y)
    parts = [part for part, _ in shapes(mask.astype(np.uint8), mask, transform=moved)]
    if len(parts) == 1:
        return parts[0]
    return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}


def _on_earth(shape: dict[str, Any], place: Georeference) -> dict[str, Any]:
    """Turn columns and rows to degrees; outer rings go against the clock."""
    from rasterio.warp import transform

    several = shape["type"] == "MultiPolygon"
    polygons = shape["coordinates"] if several else [shape["coordinates"]]
    rings = [np.array(ring, float) for polygon in polygons for ring in polygon]
    columns, rows = np.concatenate(rings).T
    at = place.transform
    xs, ys = at.a * columns + at.b * rows + at.c, at.d * columns + at.e * rows + at.f
    points = np.round(np.transpose(transform(place.crs, CRS, xs, ys)[:2]), DIGITS)
    parts = iter(np.split(points, np.cumsum([len(ring) for ring in rings])[:-1]))
    mapped = [
        [_turned(next(parts), is_outer=number == 0).tolist() for number in range(len(polygon))]
        for polygon in polygons
    ]
    return {"type": shape["type"], "coordinates": mapped if several else mapped[0]}


def _turned(ring: np.ndarray, is_outer: bool) -> np.ndarray:
    """Give a ring (N, 2) the direction that it has in GeoJSON."""
    x, y = (ring - ring[0]).T
    is_against = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
    return ring if is_against == is_outer else ring[::-1]
