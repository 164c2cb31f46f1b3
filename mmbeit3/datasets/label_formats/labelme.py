"""Labels in LabelMe's JSON files, one for each image."""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections.abc import Iterator
from functools import partial
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    box_of,
    clean_name,
    label_names,
    number,
)
from mmbeit3.datasets.label_formats.outlines import bitmap, bitmap_object, blank, ellipse, extent
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS

NO_AREA = ("line", "linestrip", "point", "points")


def files(path: Path) -> list[Path]:
    """The JSON files of a data set."""
    return [path] if path.is_file() else sorted(path.rglob("*.json"))


def is_labels(content: Any) -> bool:
    """Whether a JSON file is one of LabelMe."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read(source: Source) -> Labels:
    """Read a folder of JSON files, with the images beside them or where the files say."""
    base = source.path if source.path.is_dir() else source.path.parent
    contents = []
    for path in files(source.path):
        try:
            content = read_json(path, cure="give a folder of LabelMe files")
        except InputError as error:
            source.report.error(str(error))
            continue
        if is_labels(content):
            contents.append((path, content))
        else:
            source.notes.add("JSON files not of LabelMe, which are left out", str(path))
    found = source.folder(_image_folder(base, contents))
    images = []
    for path, content in contents:
        name = clean_name(str(content.get("imagePath") or ""))
        place = path.relative_to(base)
        candidates = [place.with_suffix("").as_posix()]
        if name != ".":
            beside = os.path.normpath(path.parent / name)
            candidates = [
                os.path.relpath(beside, found.root or base),
                (place.parent / Path(name).name).as_posix(),
                Path(name).name,
                *candidates,
            ]
        sides = [number(content.get(key)) for key in ("imageWidth", "imageHeight")]
        size = (int(sides[0]), int(sides[1])) if all(side >= 1 for side in sides) else None
        image = found.take(str(path), candidates, size)
        if image is not None:
            _add_objects(content["shapes"], image, source)
            images.append(image)
    images += found.rest() if source.path.is_dir() else []
    names = sorted({each.name for image in images for each in image.objects})
    return Labels(names, images, found.root)


def _image_folder(base: Path, contents: list[tuple[Path, Any]]) -> Path | None:
    if any(path.suffix.lower() in EXTENSIONS for path in base.rglob("*")):
        return base
    for path, content in contents:
        name = clean_name(str(content.get("imagePath") or ""))
        image = Path(os.path.normpath(path.parent / name))
        if image.is_file():
            return image.parent
    return None


def _add_objects(shapes: list[Any], image: LabeledImage, source: Source) -> None:
    groups: dict[tuple[str, int], LabeledObject] = {}
    for shape in shapes:
        if not isinstance(shape, dict):
            source.report.error(f"{image.where}: a shape is no object")
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind in NO_AREA:
            text = f"{kind} shapes, which have no area and are left out"
            source.notes.add(text, image.where)
            continue
        try:
            found = _object(shape, kind, image)
        except ValueError as error:
            source.report.error(f"{image.where}: shape {shape.get('label')!r}: {error}")
            continue
        if any((shape.get("flags") or {}).values()) or shape.get("description"):
            source.notes.add("shapes with flags or a description, which are not read", image.where)
        group = shape.get("group_id")
        if isinstance(found.mask, list) and isinstance(group, int):
            other = groups.setdefault((found.name, group), found)
            if other is not found and isinstance(other.mask, list):
                other.mask += found.mask
                other.box = box_of(other.mask)
                continue
        image.objects.append(found)


def _object(shape: dict[str, Any], kind: str, image: LabeledImage) -> LabeledObject:
    """The object of a shape; ValueError if it is none."""
    name = str(shape.get("label") or "")
    given = shape.get("points")
    pairs = given if isinstance(given, list) else []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("its points are no pairs of numbers")
    points = [(number(x), number(y)) for x, y in pairs]
    if kind == "polygon" and len(points) >= 3:
        polygon = [value for point in points for value in point]
        return LabeledObject(name, box_of([polygon]), [polygon])
    if kind == "circle" and len(points) == 2:
        radius = hypot(points[1][0] - points[0][0], points[1][1] - points[0][1])
        polygon = ellipse(points[0], (radius, radius)).ravel().tolist()
        return LabeledObject(name, box_of([polygon]), [polygon])
    if kind == "rectangle" and len(points) >= 2:
        return LabeledObject(name, box_of([[value for point in points for value in point]]))
    if kind == "mask" and len(points) == 2:
        return _mask_object(name, points, shape.get("mask"), image)
    raise ValueError(f"it is a {kind} of {len(points)} points")


def _mask_object(
    name: str, points: list[tuple[float, float]], code: Any, image: LabeledImage
) -> LabeledObject:
    left, top = round(points[0][0]), round(points[0][1])
    try:
        with Image.open(io.BytesIO(base64.b64decode(code or "", validate=True))) as picture:
            if picture.width > image.width or picture.height > image.height:
                raise ValueError("its mask is larger than the image")
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, binascii.Error, TypeError, SyntaxError) as error:
        raise ValueError(f"its mask cannot be read: {error}") from error
    height, width = part.shape
    if left < 0 or top < 0 or left + width > image.width or top + height > image.height:
        raise ValueError("its mask reaches beyond the image")
    whole = blank(image)
    whole[top : top + height, left : left + width] = part
    return bitmap_object(name, whole)


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write a JSON file for each image, which names the image where it lies."""
    for image, name in zip(labels.images, label_names(labels.images, ".json"), strict=True):
        place = (path / name).parent
        is_here = labels.root is None or (path / image.name).is_file()
        file = path / image.name if is_here else labels.root / image.name  # type: ignore[operator]
        yield name, partial(_text, image, os.path.relpath(file, place))


def _text(image: LabeledImage, file: str) -> str:
    shapes = []
    for group, found in enumerate(image.objects, 1):
        x1, y1, x2, y2 = found.box
        if isinstance(found.mask, list):
            parts = [np.array(polygon).reshape(-1, 2).tolist() for polygon in found.mask]
            shapes += [
                _shape(found.name, "polygon", points, group if len(parts) > 1 else None)
                for points in parts
            ]
        elif found.mask is None:
            shapes.append(_shape(found.name, "rectangle", [[x1, y1], [x2, y2]]))
        else:
            mask = bitmap(found, image)
            if not mask.any():
                continue
            left, top, right, bottom = extent(mask)
            picture = io.BytesIO()
            Image.fromarray(mask[top:bottom, left:right]).save(picture, "PNG")
            code = base64.b64encode(picture.getvalue()).decode()
            ends = [[left, top], [right - 1, bottom - 1]]
            shapes.append(_shape(found.name, "mask", ends) | {"mask": code})
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": file,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def _shape(name: str, kind: str, points: list[Any], group: int | None = None) -> dict[str, Any]:
    return {
        "label": name,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }
