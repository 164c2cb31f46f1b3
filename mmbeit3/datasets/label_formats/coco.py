"""Labels in COCO files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_api

from mmbeit3.datasets.checks.coco import load_coco
from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    clean_name,
)
from mmbeit3.datasets.label_formats.outlines import rle_of

CONVERTED = "converted_from"  # in info: what labels.source says
KNOWN = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd", "score"}
DIGITS = 6  # after the point of a box's numbers: more are noise of the subtraction


def read(source: Source) -> Labels:
    """Read a COCO annotation file, checked as for training."""
    data = load_coco(source.path, cure="give a COCO annotation file")
    names = {category["id"]: category["name"] for category in data["categories"]}
    images = {
        image["id"]: LabeledImage(clean_name(image["file_name"]), image["width"], image["height"])
        for image in data["images"]
    }
    for entry in data["annotations"]:
        x, y, width, height = map(float, entry["bbox"])
        found = LabeledObject(
            names[entry["category_id"]],
            (x, y, x + width, y + height),
            entry.get("segmentation") or None,
            entry.get("score"),
            bool(entry.get("iscrowd")),
        )
        images[entry["image_id"]].objects.append(found)
        for key in entry.keys() - KNOWN:
            source.notes.add("further values of objects, which are not read", key)
    return Labels([names[key] for key in sorted(names)], list(images.values()), source.images)


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write one file; ids count from 1."""
    yield "", lambda: json.dumps(to_coco(labels), ensure_ascii=False)


def to_coco(labels: Labels) -> dict[str, Any]:
    """The content of a COCO file."""
    numbers = {name: number for number, name in enumerate(labels.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(labels.images, 1):
        size = {"width": image.width, "height": image.height}
        images.append({"id": image_id, "file_name": image.name, **size})
        for found in image.objects:
            x1, y1, x2, y2 = found.box
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": numbers[found.name],
                "bbox": [round(value, DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)],
                "area": round((x2 - x1) * (y2 - y1), DIGITS),
                "iscrowd": int(found.is_crowd),
            }
            if found.mask is not None:
                code = rle_of(found, image)
                entry["area"] = float(mask_api.area(code))
                entry["segmentation"] = _segmentation(found)
            if found.score is not None:
                entry["score"] = found.score
            annotations.append(entry)
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    info = {"info": {CONVERTED: labels.source}} if labels.source else {}
    return info | content


def _segmentation(found: LabeledObject) -> Any:
    if not isinstance(found.mask, dict):
        return found.mask
    counts = found.mask["counts"]
    return found.mask | {"counts": counts.decode() if isinstance(counts, bytes) else counts}


def by_image(results: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """The entries of a COCO results list by their image."""
    found = defaultdict(list)
    for entry in results:
        found[entry["image_id"]].append(entry)
    return found
