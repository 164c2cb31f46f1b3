"""COCO evaluation, next to pycocotools."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.data import require
from benchmarks.options import Options
from mmbeit3.evaluation.coco import IOU_TYPES, evaluate_coco

PER_IMAGE = 100
RESULTS = "results.json"


def evaluation(options: Options) -> Case:
    """Score 100 detections on each image of val2017, from file to metrics."""
    truth = require(options.coco / "annotations" / "instances_val2017.json", "--coco")
    candidates, comparisons = [], []
    for iou_type in IOU_TYPES:
        names = [f"{who}, {iou_type}" for who in ("mmbeit3", "pycocotools")]
        candidates += [
            Candidate(name, build, dict(truth=truth, iou_type=iou_type, ours=ours), memory=False)
            for name, ours in zip(names, (True, False), strict=True)
        ]
        comparisons.append(Comparison(*names, speed=3, tolerance=1e-9))
    return Case(
        "evaluation",
        f"COCO evaluation of {PER_IMAGE} detections on each image of {truth.name}, files included",
        tuple(candidates),
        tuple(comparisons),
    )


def build(truth: Path, iou_type: str, ours: bool) -> Callable[[], Tensor]:
    """Make a call that reads the files and returns the 12 numbers of the COCO API, float64."""
    shape = {"bbox": "bbox", "segm": "segmentation"}[iou_type]
    keys = ("image_id", "category_id", "score", shape)
    found = [{key: entry[key] for key in keys} for entry in make_detections(truth)]
    kept = tempfile.TemporaryDirectory(prefix="mmbeit3-benchmark-")
    (Path(kept.name) / RESULTS).write_text(json.dumps(found))
    return functools.partial(_ours if ours else _official, truth, kept, iou_type)


def _ours(truth: Path, kept: tempfile.TemporaryDirectory, iou_type: str) -> Tensor:
    metrics = evaluate_coco(truth, Path(kept.name) / RESULTS, iou_type)
    return torch.tensor(list(metrics.values()), dtype=torch.float64)


def _official(truth: Path, kept: tempfile.TemporaryDirectory, iou_type: str) -> Tensor:
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        found = annotations.loadRes(f"{kept.name}/{RESULTS}")
        run = COCOeval(annotations, found, iou_type)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return torch.from_numpy(run.stats)


@functools.cache
def make_detections(truth: Path) -> list[dict[str, Any]]:
    """Make detections like those of a fair detector, the same at every call.

    Two thirds are objects of the ground truth, moved, grown or shrunk, some with another class;
    the others are ellipses anywhere. Boxes are a little off the masks.

    Args:
        truth (Path): COCO annotation file.

    Returns:
        list[dict]: COCO results with ``bbox`` and ``segmentation``, :data:`PER_IMAGE` an image.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
    draw = np.random.default_rng(0)
    categories = sorted(coco.cats)
    results = []
    for image in coco.imgs.values():
        objects = [(coco.annToMask(a), a["category_id"]) for a in coco.imgToAnns[image["id"]]]
        masks = _masks(objects, (image["height"], image["width"]), categories, draw)
        for _, (mask, category, score) in zip(range(PER_IMAGE), masks, strict=False):
            rle = coco_mask.encode(np.asfortranarray(mask))
            x, y, width, height = coco_mask.toBbox(rle)
            off = draw.normal(0, 0.05, 4) * (width, height, width, height)
            box = np.maximum((x, y, width, height) + off, (0, 0, 1, 1))
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": int(category),
                    "score": float(score),
                    "bbox": box.tolist(),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return results


def _masks(
    objects: list[tuple[np.ndarray, int]],
    size: tuple[int, int],
    categories: list[int],
    draw: np.random.Generator,
) -> Iterator[tuple[np.ndarray, int, float]]:
    """Yield masks (H, W) uint8 that are not empty, their category and score, without end."""
    height, width = size
    while True:
        category = int(draw.choice(categories))
        if objects and draw.random() < 2 / 3:
            mask, own = objects[draw.integers(len(objects))]
            category = own if draw.random() < 0.75 else category
            step = max(2, 0.1 * np.sqrt(mask.sum()))
            change = cv2.dilate if draw.random() < 0.5 else cv2.erode
            mask = change(mask, np.ones([int(draw.integers(1, step + 2))] * 2, np.uint8))
            shift = np.float32([[1, 0, draw.normal(0, step)], [0, 1, draw.normal(0, step)]])
            mask = cv2.warpAffine(mask, shift, (width, height), flags=cv2.INTER_NEAREST)
            score = draw.beta(3, 2)
        else:
            mask = np.zeros(size, np.uint8)
            center = int(draw.integers(width)), int(draw.integers(height))
            axes = int(draw.integers(4, width // 3)), int(draw.integers(4, height // 3))
            cv2.ellipse(mask, center, axes, float(draw.uniform(0, 180)), 0, 360, 1, -1)
            score = draw.beta(1, 6)
        if mask.any():
            yield mask, category, score
