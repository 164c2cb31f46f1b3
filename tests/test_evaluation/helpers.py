"""Imperfect detections, and the official COCO program to score them."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def perturbed_results(truth: dict, seed: int) -> list[dict]:
    """Detections made from annotations: shifted, lost, of a wrong class, with ties in score."""
    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    numbers = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, width, height = annotation["bbox"]
            noise = rng.normal(0, 0.08, 4) * [width, height, width, height]
            box = np.array([x, y, width, height]) + noise
            box[2:] = box[2:].clip(1)
            height, width = sizes[annotation["image_id"]]
            keep = rng.random() < 0.8
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"] if keep else int(rng.choice(numbers)),
                    "bbox": box.tolist(),
                    "score": round(float(rng.random()), 1),
                    "segmentation": _box_mask(box, height, width),
                }
            )
    return results


def _box_mask(box: np.ndarray, height: int, width: int) -> dict:
    mask = np.zeros((height, width), np.uint8, order="F")
    x, y, w, h = box.round().astype(int)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = 1
    rle = mask_api.encode(mask)
    return rle | {"counts": rle["counts"].decode()}


def run_pycocotools(truth: dict, results: list[dict], iou_type: str) -> np.ndarray:
    """The official program's own 12 numbers."""
    evaluator = _evaluated(truth, results, iou_type, (1, 10, 100))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.summarize()
    return evaluator.stats


def accumulated(truth: dict, results: list[dict], iou_type: str, max_dets: tuple) -> dict:
    """The official program's arrays of precision and recall."""
    return _evaluated(truth, results, iou_type, max_dets).eval


def _evaluated(truth: dict, results: list[dict], iou_type: str, max_dets: tuple) -> COCOeval:
    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    keep = "bbox" if iou_type == "bbox" else "segmentation"
    results = [
        {key: result[key] for key in ("image_id", "category_id", "score", keep)}
        for result in results
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), iou_type)
        evaluator.params.maxDets = list(max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator
