"""Labels in CVAT's XML for images, version 1.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    number,
)
from mmbeit3.datasets.label_formats.outlines import (
    bitmap,
    bitmap_object,
    blank,
    ellipse,
    extent,
    outlines,
    polygon_object,
    turned,
)
from mmbeit3.datasets.label_formats.xml_files import add, read_xml, xml_text
from mmbeit3.utils import InputError

SHAPES = ("box", "polygon", "mask", "ellipse")


def read(source: Source) -> Labels:
    """Read a file of images; one of a video is refused."""
    root = read_xml(source.path)
    if root.tag != "annotations" or root.find("track") is not None:
        kind = "of a video" if root.find("track") is not None else f"<{root.tag}>"
        raise InputError(f"{source.path} is {kind}; export it from CVAT as 'CVAT for images'")
    found = source.folder()
    images = []
    for entry in root.iter("image"):
        name, where = entry.get("name") or "", f"{source.path}, image {entry.get('name')!r}"
        sides = [number(entry.get(key)) for key in ("width", "height")]
        size = (int(sides[0]), int(sides[1])) if all(side >= 1 for side in sides) else None
        image = found.take(where, [name], size)
        if image is None:
            continue
        for shape in entry:
            _add_shape(shape, image, source)
        images.append(image)
    labels = [label for label in root.findall("meta//labels/label") if not label.findtext("parent")]
    classes = list(dict.fromkeys((label.findtext("name") or "").strip() for label in labels))
    used = sorted({each.name for image in images for each in image.objects} - set(classes))
    return Labels([name for name in classes if name] + used, images, found.root)


def _add_shape(shape: Element, image: LabeledImage, source: Source) -> None:
    name = (shape.get("label") or "").strip()
    if shape.tag not in SHAPES:
        if shape.tag != "tag":
            text = f"<{shape.tag}> shapes, which have no area and are left out"
            source.notes.add(text, image.name)
        return
    if shape.find("attribute") is not None:
        source.notes.add("shapes with attributes, which are not read", image.name)
    angle = number(shape.get("rotation") or 0)
    if shape.tag == "box":
        x1, y1, x2, y2 = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        if not angle:
            image.objects.append(LabeledObject(name, (x1, y1, x2, y2)))
            return
        middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) - middle
        found = polygon_object(name, turned(corners, angle) + middle)
    elif shape.tag == "polygon":
        words = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair.strip()]
        if len(words) < 3 or any(len(pair) != 2 for pair in words):
            source.report.error(f"{image.where}: a polygon has no points x,y;x,y;x,y")
            return
        found = polygon_object(name, [[number(x), number(y)] for x, y in words])
    elif shape.tag == "ellipse":
        x, y, rx, ry = (number(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
        found = polygon_object(name, ellipse((x, y), (rx, ry), angle))
    else:
        mask = _mask(shape, image)
        if isinstance(mask, str):
            source.report.error(f"{image.where}: a mask {mask}")
            return
        found = bitmap_object(name, mask)
    image.objects.append(found)


def _mask(shape: Element, image: LabeledImage) -> np.ndarray | str:
    """The mask (H, W) of an element, or what is wrong with it."""
    sides = [number(shape.get(key)) for key in ("left", "top", "width", "height")]
    counts = np.array([number(word) for word in (shape.get("rle") or "").split(",")])
    if not np.isfinite([*sides, *counts]).all() or counts.min() < 0:
        return "has no whole numbers"
    left, top, width, height = map(int, sides)
    if min(left, top) < 0 or left + width > image.width or top + height > image.height:
        return "reaches beyond its image"
    if counts.sum() != width * height or not counts[1::2].any():
        return f"has a run-length code of {counts.sum():.0f} pixels, expected {width * height}"
    part = np.repeat(np.arange(len(counts)) % 2, counts.astype(int)).reshape(height, width)
    whole = blank(image)
    whole[top : top + height, left : left + width] = part
    return whole


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write one file."""
    yield "", lambda: _text(labels)


def _text(labels: Labels) -> str:
    root = Element("annotations")
    add(root, "version", "1.1")
    named = add(add(add(root, "meta"), "task"), "labels")
    for name in labels.classes:
        label = add(named, "label")
        add(label, "name", name)
        add(label, "attributes", "")
    for index, image in enumerate(labels.images):
        facts = {"name": image.name, "width": image.width, "height": image.height}
        element = add(root, "image", id=index, **facts)
        for found in image.objects:
            _add_element(element, found, image)
    return xml_text(root)


def _add_element(element: Element, found: LabeledObject, image: LabeledImage) -> None:
    facts: dict[str, object] = {"label": found.name, "source": "file", "occluded": 0, "z_order": 0}
    if found.mask is None:
        pairs = zip(("xtl", "ytl", "xbr", "ybr"), found.box, strict=True)
        add(element, "box", **facts, **{key: f"{value:.10g}" for key, value in pairs})
        return
    if isinstance(found.mask, list) and len(found.mask) == 1:
        ((ring,),) = outlines(found, image)
        points = ";".join(f"{x:.10g},{y:.10g}" for x, y in ring.tolist())
        add(element, "polygon", **facts, points=points)
        return
    mask = bitmap(found, image)
    if not mask.any():
        return
    left, top, right, bottom = extent(mask)
    part = mask[top:bottom, left:right]
    changes = np.flatnonzero(np.diff(part.ravel().astype(np.int8), prepend=0))
    counts = np.diff(changes, prepend=0, append=part.size)
    height, width = part.shape
    place = {"left": left, "top": top, "width": width, "height": height}
    add(element, "mask", **facts, rle=", ".join(map(str, counts.tolist())), **place)
