"""The page on detections, from files to files."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case
from benchmarks.options import Options
from mmbeit3.inference.detection_report import report_detections
from mmbeit3.inference.report_page import FILES

NUM_IMAGES, NUM_CLASSES, PER_IMAGE = 5000, 80, 100
WIDTH, HEIGHT = 640, 480
MAX_PAGE = 20  # MB
OBJECTS = 7.3  # of an image, as in COCO


def report(options: Options) -> Case:
    """Report on 5,000 made images of 80 classes, with 100 detections each."""
    return Case(
        "report",
        f"report on {NUM_IMAGES:,} images, {NUM_CLASSES} classes, {PER_IMAGE} detections each",
        (
            Candidate(
                "mmbeit3",
                build,
                items=NUM_IMAGES,
                seconds_at_most=60,
                memory_at_most=2 * 10**9,
            ),
        ),
    )


def build() -> Callable[[], Tensor]:
    """Make a call that writes the report, and returns AP and the size of the page in MB."""
    kept = tempfile.TemporaryDirectory(prefix="mmbeit3-benchmark-")
    folder = Path(kept.name)
    truth, results = make_detections(NUM_IMAGES)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    first = folder / truth["images"][0]["file_name"]
    cv2.imwrite(str(first), cv2.resize(noise, (WIDTH, HEIGHT)))
    for image in truth["images"][1:]:
        (folder / image["file_name"]).hardlink_to(first)
    return functools.partial(_report, kept)


def _report(kept: tempfile.TemporaryDirectory) -> Tensor:
    folder = Path(kept.name)
    files = [folder / "results.json"], folder / "truth.json", folder / "out"
    content = report_detections(*files, images=folder)
    size = (folder / "out" / FILES[0]).stat().st_size / 1e6
    print(f"the page has {size:.1f} MB (target: {MAX_PAGE} MB)")
    return torch.tensor([content["results"][0]["metrics"]["AP"], size])


def make_detections(num_images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make annotations, and detections like those of a fair detector, the same at every call.

    Two thirds of the detections are objects, moved and resized, a quarter of them of another class;
    the others lie anywhere.

    Args:
        num_images (int): How many images.

    Returns:
        tuple: COCO annotations, and COCO results, :data:`PER_IMAGE` an image.
    """
    draw = np.random.default_rng(0)
    annotations, results = [], []
    for image in range(1, num_images + 1):
        boxes = _boxes(draw, int(draw.poisson(OBJECTS)) + 1)
        labels = (draw.zipf(1.3, len(boxes)) - 1) % NUM_CLASSES
        for label, box in zip(labels.tolist(), boxes.round(2).tolist(), strict=True):
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": label + 1}
            entry |= {"bbox": box, "area": box[2] * box[3], "iscrowd": int(draw.random() < 0.01)}
            annotations.append(entry)
        near = 2 * PER_IMAGE // 3
        source = draw.integers(0, len(boxes), near)
        sizes = np.tile(boxes[source, 2:], 2)
        found = np.concatenate([boxes[source] + draw.normal(0, 0.12, (near, 4)) * sizes])
        found = np.concatenate([found, _boxes(draw, PER_IMAGE - near)])
        found[:, 2:] = found[:, 2:].clip(1)
        other = draw.integers(0, NUM_CLASSES, PER_IMAGE)
        other[:near] = np.where(draw.random(near) < 0.75, labels[source], other[:near])
        scores = np.concatenate([draw.beta(3, 2, near), draw.beta(1, 6, PER_IMAGE - near)])
        columns = other.tolist(), found.round(2).tolist(), scores.round(4).tolist()
        results += [
            {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}
            for label, box, score in zip(*columns, strict=True)
        ]
    images = [
        {"id": image, "file_name": f"{image:06d}.jpg", "width": WIDTH, "height": HEIGHT}
        for image in range(1, num_images + 1)
    ]
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, NUM_CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _boxes(draw: np.random.Generator, number: int) -> np.ndarray:
    """Boxes (N, 4) of many sizes inside the image: x, y, width, height."""
    sizes = np.exp(draw.normal(4, 0.9, (number, 2))).clip(6, 400)
    return np.concatenate([draw.random((number, 2)) * ((WIDTH, HEIGHT) - sizes), sizes], 1)
