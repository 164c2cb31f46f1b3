"""Labels in GeoJSON, a file for each image, in pixels of it; QuPath reads them, for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    box_of,
    label_names,
    number,
    object_problem,
)
from mmbeit3.datasets.label_formats.outlines import bitmap, blank, encode, outlines
from mmbeit3.utils import InputError

SUFFIXES = (".geojson", ".json")


def files(path: Path) -> list[Path]:
    """The GeoJSON files of a data set."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)


def is_labels(content: Any) -> bool:
    """Whether a JSON file is one of GeoJSON."""
    return isinstance(content, dict) and content.get("type") == "FeatureCollection"


def read(source: Source) -> Labels:
    """Read a folder of files, or one; polygons and multipolygons."""
    base = source.path if source.path.is_dir() else source.path.parent
    found = source.folder()
    images = []
    for path in files(source.path):
        try:
            content = read_json(path, cure="give GeoJSON files")
        except InputError as error:
            source.report.error(str(error))
            continue
        if not is_labels(content) or not isinstance(content.get("features"), list):
            source.notes.add("JSON files without features, which are left out", str(path))
            continue
        if "crs" in content:
            source.report.error(f"{path}: it has map coordinates (crs), expected pixels")
            continue
        stated = content.get("image")
        facts = stated if isinstance(stated, dict) else {}
        sides = [number(facts.get(key)) for key in ("width", "height")]
        size = (int(sides[0]), int(sides[1])) if all(side >= 1 for side in sides) else None
        place = path.relative_to(base).with_suffix("").as_posix()
        image = found.take(str(path), [str(facts.get("file_name") or ""), place], size)
        if image is None:
            continue
        for feature in content["features"]:
            _add_feature(feature, image, source)
        images.append(image)
    names = sorted({each.name for image in images for each in image.objects})
    return Labels(names, images, found.root)


def _add_feature(feature: Any, image: LabeledImage, source: Source) -> None:
    try:
        geometry = feature["geometry"]
        kind, coordinates = geometry["type"], geometry["coordinates"]
        facts = feature.get("properties") or {}
        named = facts.get("class") or (facts.get("classification") or {}).get("name") or ""
        parts = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(kind)
        if parts is None:
            text = f"{kind} features, which have no area and are left out"
            source.notes.add(text, image.where)
            return
        rings = [[_flat(ring) for ring in part] for part in parts]
        outer = [part[0] for part in rings]
        score = facts.get("score")
        found = LabeledObject(
            str(named),
            box_of(outer),
            outer,
            None if score is None else number(score),
            bool(facts.get("iscrowd")),
        )
        if len(feature.get("bbox") or ()) == 4:
            x1, y1, x2, y2 = map(number, feature["bbox"])
            found.box = (x1, y1, x2, y2)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        source.report.error(f"{image.where}: a feature has no geometry of points [x, y]")
        return
    if facts.get("is_box") is True:
        found.mask = None
    elif any(len(part) > 1 for part in rings):
        if not all(ring for part in rings for ring in part):
            source.report.error(f"{image.where}: a ring has no points")
            return
        drawn = [LabeledObject("hole", box_of([ring]), [ring]) for part in rings for ring in part]
        for each in drawn:
            if problem := object_problem(each, image):
                source.report.error(f"{image.where}: a ring: {problem}")
                return
        found.mask = encode(_with_holes(rings, image))
    image.objects.append(found)


def _flat(ring: list[Any]) -> list[float]:
    """The points of a closed ring, without the last, which is the first."""
    points = [(number(point[0]), number(point[1])) for point in ring]
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    return [value for point in points for value in point]


def _with_holes(parts: list[list[list[float]]], image: LabeledImage) -> np.ndarray:
    whole = blank(image)
    for outer, *holes in parts:
        mask = bitmap(LabeledObject("", box_of([outer]), [outer]), image)
        for hole in holes:
            mask &= ~bitmap(LabeledObject("", box_of([hole]), [hole]), image)
        whole |= mask
    return whole


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write a file for each image."""
    for image, name in zip(labels.images, label_names(labels.images, ".geojson"), strict=True):
        yield name, partial(_text, image)


def _text(image: LabeledImage) -> str:
    content = {
        "type": "FeatureCollection",
        "image": {"file_name": image.name, "width": image.width, "height": image.height},
        "features": [_feature(found, image) for found in image.objects],
    }
    return json.dumps(content, ensure_ascii=False)


def _feature(found: LabeledObject, image: LabeledImage) -> dict[str, Any]:
    x1, y1, x2, y2 = found.box
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    parts = [[corners]] if found.mask is None else outlines(found, image)
    rings = [[[*ring.tolist(), ring[0].tolist()] for ring in part] for part in parts]
    facts: dict[str, Any] = {"class": found.name, "classification": {"name": found.name}}
    facts |= {"objectType": "annotation", "is_box": found.mask is None}
    if found.score is not None:
        facts["score"] = found.score
    if found.is_crowd:
        facts["iscrowd"] = 1
    single = len(rings) == 1
    geometry = {
        "type": "Polygon" if single else "MultiPolygon",
        "coordinates": rings[0] if single else rings,
    }
    box = list(found.box)
    return {"type": "Feature", "bbox": box, "geometry": geometry, "properties": facts}
