"""A page on what a detector finds and misses, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from mmbeit3.datasets.checks.coco import load_coco
from mmbeit3.datasets.coco import find_category_ids
from mmbeit3.datasets.palette import make_palette
from mmbeit3.evaluation.coco import Accumulated, accumulate_coco, to_rle
from mmbeit3.evaluation.detection_errors import ERRORS
from mmbeit3.evaluation.detection_numbers import (
    DetectionNumbers,
    calibration_error,
    compare,
    is_error,
    measure,
)
from mmbeit3.inference.report_page import (
    SIDE,
    begin,
    choose_images,
    draw_pictures,
    result_names,
    write_report,
)
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.image_reading import read_image
from mmbeit3.visualization.overlay import draw_instances
from mmbeit3.visualization.picture_page import thumbnail


@dataclass(frozen=True)
class _Result:
    """A result after it was measured: of its detections, those that pictures show."""

    name: str
    numbers: DetectionNumbers
    shown: dict[int, list[dict]]


def report_detections(
    results: Sequence[str | Path],
    ground_truth: str | Path,
    out_dir: str | Path,
    images: str | Path | None = None,
    iou_type: str = "bbox",
    score_thr: float | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write a page on detections and its numbers, ``report.html`` and ``report.json``.

    Args:
        results: COCO results files; the others are compared with the first.
        ground_truth: COCO annotation file.
        out_dir: Where the two files go; made if absent.
        images: Folder of the images. Defaults to None: the page has no pictures.
        iou_type: 'bbox' or 'segm', what is compared. Defaults to 'bbox'.
        score_thr: Score from which on detections are shown and count in the confusion. Defaults to
            None, for each result the score of its best F1.
        classes: Names of the classes to evaluate. Defaults to None, all of the file.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: A file cannot be used, or Jinja2 or Plotly is not installed.
    """
    begin(out_dir)
    numbers_of_classes = None
    if classes is not None:
        categories = load_coco(ground_truth, check_meaning=False)["categories"]
        numbers_of_classes = find_category_ids(classes, categories, str(ground_truth))
    measured = []
    for name, path in zip(result_names(results), results, strict=True):
        found = accumulate_coco(ground_truth, path, iou_type, category_ids=numbers_of_classes)
        try:
            numbers = measure(found, iou_type, score_thr)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        measured.append(_Result(name, numbers, _shown(found, numbers.threshold)))
    first, *others = (result.numbers for result in measured)
    comparisons = [compare(first, other) for other in others]
    wanted = _choose(measured)
    pictures = _draw(measured, found, wanted, images, iou_type) if images else {}
    kind = {"bbox": "boxes", "segm": "masks"}[iou_type]
    content = {
        "ground_truth": str(ground_truth),
        "kind": kind,
        "results": [
            {"name": result.name, "file": str(path)} | result.numbers.as_json()
            for result, path in zip(measured, results, strict=True)
        ],
        "comparisons": comparisons,
    }
    page = {
        "classes": found.classes,
        "names": [image["file_name"] for image in found.truth["images"]],
        "numImages": len(found.truth["images"]),
        "errorWords": ERRORS,
        "results": list(map(_page_data, measured)),
        "comparisons": comparisons,
        "pictures": pictures,
    }
    note = f"{kind} of {' and '.join(map(str, results))}, next to {ground_truth}"
    write_report(out_dir, "detections.html", "Detections", note, page, content)
    if images and not pictures:
        warn(f"the report has no picture: none of the images that it would show is in {images}")
    return content


def _shown(found: Accumulated, threshold: float) -> dict[int, list[dict]]:
    """Detections from a score on, by the index of their image."""
    indices = {image["id"]: index for index, image in enumerate(found.truth["images"])}
    shown: dict[int, list[dict]] = {}
    for detection in found.detections:
        if detection["score"] >= threshold:
            shown.setdefault(indices[detection["image_id"]], []).append(detection)
    return shown


def _page_data(result: _Result) -> dict[str, Any]:
    numbers = result.numbers
    content = numbers.as_json()
    return {
        "name": result.name,
        **{key: content[key] for key in ("metrics", "classes", "threshold", "best_f1", "errors")},
        "confusion": content["confusion"],
        "curves": numbers.curves,
        "calibration": numbers.calibration,
        "calibration_error": [calibration_error(bins) for bins in numbers.calibration],
        "images": [
            [[row, column, number] for (row, column), number in cells.items()]
            for cells in numbers.cells
        ],
    }


def _choose(measured: Sequence[_Result]) -> list[int]:
    """Images in the order in which they get a picture, as long as there is room."""
    counted = []
    for cells in (result.numbers.cells for result in measured):
        wrong = [sum(n for cell, n in own.items() if is_error(cell)) for own in cells]
        right = [sum(n for cell, n in own.items() if not is_error(cell)) for own in cells]
        counted.append((cells, wrong, right))
    return choose_images(counted)


def _draw(
    measured: Sequence[_Result],
    found: Accumulated,
    wanted: Sequence[int],
    images: str | Path,
    iou_type: str,
) -> dict[int, list[str]]:
    """Draw truth and results of images, until there is no more room; those that are absent lack."""
    labels = {number: index for index, number in enumerate(found.category_ids)}
    colors = [(blue, green, red) for red, green, blue in make_palette(len(labels))]
    draw = partial(
        _draw_image, labels=labels, classes=found.classes, palette=colors, iou_type=iou_type
    )
    truths: dict[int, list[dict]] = {}
    indices = {image["id"]: index for index, image in enumerate(found.truth["images"])}
    for annotation in found.truth["annotations"]:
        truths.setdefault(indices[annotation["image_id"]], []).append(annotation)

    def pictures(index: int) -> list[bytes] | None:
        parts = [truths, *(result.shown for result in measured)]
        path = Path(images, found.truth["images"][index]["file_name"])
        return draw(path, [part.get(index, []) for part in parts])

    return draw_pictures(wanted, pictures)


def _draw_image(
    path: Path,
    parts: Sequence[list[dict]],
    labels: dict[int, int],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    iou_type: str,
) -> list[bytes] | None:
    """An image with each of several lists of objects, as JPEG; None if it cannot be read."""
    if not osp.isfile(path):
        return None
    try:
        image = read_image(path)
    except InputError:
        return None
    jpegs = []
    for objects in parts:
        corners = np.array([_box(entry) for entry in objects], float).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        scores = np.array([entry.get("score", 1) for entry in objects])
        picture = draw_instances(
            image,
            corners,
            np.array([labels[entry["category_id"]] for entry in objects], int),
            scores if objects and "score" in objects[0] else None,
            _masks(objects, image.shape[:2]) if iou_type == "segm" and objects else None,
            classes,
            palette,
        )
        jpegs.append(thumbnail(picture, SIDE))
    return jpegs


def _box(entry: dict) -> Sequence[float]:
    return entry["bbox"] if "bbox" in entry else mask_api.toBbox(entry["segmentation"]).tolist()


def _masks(objects: Sequence[dict], size: Sequence[int]) -> np.ndarray:
    encoded = [to_rle(entry["segmentation"], *size) for entry in objects]
    return mask_api.decode(encoded).transpose(2, 0, 1).astype(bool)
