"""COCO evaluation, next to pycocotools and faster-coco-eval."""

from __future__ import annotations

import atexit
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
from benchmarks.cases.report import HEIGHT, NUM_IMAGES, WIDTH
from benchmarks.cases.report import make_detections as make_boxes
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


def evaluation_many(options: Options) -> Case:
    """Score the masks of 500,000 detections on 5,000 made images, from file to metrics."""
    kept = tempfile.TemporaryDirectory(prefix="mmbeit3-benchmark-")
    atexit.register(kept.cleanup)
    files = Path(kept.name, "truth.json"), Path(kept.name, RESULTS)
    truth, results = make_boxes(NUM_IMAGES)
    for entry in [*truth["annotations"], *results]:
        entry["segmentation"] = _ellipse(entry["bbox"])
    for entry in results:
        rle = coco_mask.frPyObjects(entry.pop("segmentation"), HEIGHT, WIDTH)[0]
        entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        del entry["bbox"]
    for file, content in zip(files, (truth, results), strict=True):
        file.write_text(json.dumps(content))
    names = ("mmbeit3", "pycocotools", "faster-coco-eval")
    return Case(
        "evaluation-many",
        f"COCO evaluation of {len(results):,} masks, {len(truth['annotations']):,} objects on "
        f"{NUM_IMAGES:,} images, files included",
        tuple(Candidate(name, build_many, dict(files=files, name=name)) for name in names),
        (
            Comparison("mmbeit3", "pycocotools", speed=5, memory=0.5, tolerance=1e-12),
            Comparison("mmbeit3", "faster-coco-eval", tolerance=1e-12),
        ),
    )


def _ellipse(box: list[float]) -> list[list[float]]:
    """A polygon of 16 points in a box, as COCO has it."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) / 2 + 0.5
    return [(np.array(box[:2]) + points * box[2:]).round(2).flatten().tolist()]


def build_many(files: tuple[Path, Path], name: str) -> Callable[[], Tensor]:
    """Make a call that reads the files and returns the 12 numbers for masks, float64."""
    return functools.partial(_ours_many if name == "mmbeit3" else _plainly, files, name)


def _ours_many(files: tuple[Path, Path], name: str) -> Tensor:
    return torch.tensor(list(evaluate_coco(*files, "segm").values()), dtype=torch.float64)


def _plainly(files: tuple[Path, Path], name: str) -> Tensor:
    """As the program's own documentation has it."""
    if name == "pycocotools":
        kinds: tuple[Any, Any] = COCO, COCOeval
    else:
        import faster_coco_eval

        kinds = faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = kinds[0](str(files[0]))
        run = kinds[1](annotations, annotations.loadRes(str(files[1])), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return torch.tensor(np.asarray(run.stats, np.float64)[:12])


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
