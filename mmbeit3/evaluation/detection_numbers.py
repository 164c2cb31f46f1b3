"""What a report on detections says: by class, by score, by image, and of one result to another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbeit3.evaluation import resampling
from mmbeit3.evaluation.average_precision import Resampling
from mmbeit3.evaluation.coco import AP_KEYS, Accumulated, summarize
from mmbeit3.evaluation.detection_errors import FOUND, find_errors
from mmbeit3.evaluation.overlaps import IOU_THRESHOLDS, Overlaps, find_overlaps, match
from mmbeit3.utils import InputError

BINS = 10  # of scores, for calibration
Cell = tuple[int, int]  # class of the object, class of the detection; K: none


@dataclass(frozen=True)
class DetectionNumbers:
    """What is measured of a result.

    Attributes:
        metrics (dict): The 12 numbers of the COCO API.
        classes (list[dict]): Of each class ``name``, its numbers, how many ``objects`` in how many
            ``images`` there are, and of the best F1 at IoU 0.5 ``threshold``, ``f1``,
            ``precision``, ``recall``.
        threshold (float): The score of the best F1 over all classes; from it on a detection counts
            in the confusion and in ``cells``.
        best_f1 (dict): That F1, as of a class.
        curves (list): Precision (3, 101) of each class over recall, at IoU 0.5, at 0.75 and the
            mean from 0.5 to 0.95; last that of all classes. None without objects.
        confusion (np.ndarray): (K + 1, K + 1), objects by their class, or the background, in rows,
            detections by theirs, or missed, in columns.
        errors (dict): ``ap50``, ``counts``, ``cost`` and ``by_class`` of
            :class:`~mmbeit3.evaluation.detection_errors.DetectionErrors`.
        calibration (list): For each class and last for all, (BINS, 3): how many detections are in a
            bin of scores, their mean score, and which part of them is right at IoU 0.5.
        cells (list[dict]): For each image, how often each cell of the confusion is there.
        resampling (Resampling): To compare it with another result.
    """

    metrics: dict[str, float]
    classes: list[dict[str, Any]]
    threshold: float
    best_f1: dict[str, float | None]
    curves: list[Any]
    confusion: np.ndarray
    errors: dict[str, Any]
    calibration: list[Any]
    cells: list[dict[Cell, int]]
    resampling: Resampling

    def as_json(self) -> dict[str, Any]:
        """The numbers for a program; a number that cannot be measured is null."""
        return {
            "metrics": {key: _known(value) for key, value in self.metrics.items()},
            "classes": self.classes,
            "threshold": self.threshold,
            "best_f1": self.best_f1,
            "errors": self.errors,
            "confusion": self.confusion.tolist(),
            "calibration": {
                "bins": self.calibration,
                "expected_error": [calibration_error(bins) for bins in self.calibration],
            },
        }


def measure(found: Accumulated, iou_type: str, threshold: float | None = None) -> DetectionNumbers:
    """Measure a result.

    Args:
        found: The result with its ground truth.
        iou_type: 'bbox' or 'segm'.
        threshold: Score from which on detections count in the confusion and on images. Defaults to
            None, the score of the best F1.

    Raises:
        InputError: There are no detections, or no objects to find.
    """
    overlaps = find_overlaps(found, iou_type)
    if not len(overlaps.score):
        raise InputError("there is not one detection: is the score threshold of the model too high")
    if not overlaps.positives().any():
        raise InputError("the ground truth has no object of the evaluated classes")
    matched = [match(overlaps, threshold) for threshold in IOU_THRESHOLDS]
    at_half = matched[0]
    is_right = (at_half >= 0) & ~np.r_[overlaps.is_crowd, False][at_half]
    counts = is_right | (at_half < 0)
    everything = np.ones(len(counts), bool)
    best_f1 = _best_f1(overlaps, is_right, counts, everything, int(overlaps.positives().sum()))
    least = (best_f1["threshold"] or 0.0) if threshold is None else threshold
    cells = _cells(overlaps, at_half, least)
    confusion = np.zeros((overlaps.num_classes + 1,) * 2, np.int64)
    for image in cells:
        for cell, number in image.items():
            confusion[cell] += number
    own = [overlaps.label == label for label in range(overlaps.num_classes)]
    return DetectionNumbers(
        summarize(found.arrays, found.max_dets),
        _classes(found, overlaps, is_right, counts, own),
        float(least),
        best_f1,
        _curves(found.arrays["precision"]),
        confusion,
        vars(find_errors(overlaps, at_half)),
        [
            _calibration(overlaps.score[chosen & counts], is_right[chosen & counts])
            for chosen in (*own, everything)
        ],
        cells,
        Resampling(overlaps, matched),
    )


def compare(first: DetectionNumbers, other: DetectionNumbers, seed: int = 0) -> dict[str, Any]:
    """Measure by how much the AP of another result is above that of the first.

    Args:
        first: The one.
        other: The other, on the same images.
        seed: Of the draws. Defaults to 0.

    Returns:
        See :func:`mmbeit3.evaluation.resampling.compare`; of each class and, last, their mean.
    """
    one, two = (
        lambda times, result=result: resampling.with_mean(
            result.resampling.average_precision(times)
        )
        for result in (first, other)
    )
    return resampling.compare(one, two, len(first.cells), seed)


def calibration_error(bins: list[list[float]]) -> float | None:
    """The mean distance of scores from the part that is right, by the number of detections.

    Args:
        bins: Number, mean score and right part of each bin.
    """
    total = sum(number for number, _, _ in bins)
    off = sum(number * abs(score - right) for number, score, right in bins)
    return off / total if total else None


def is_error(cell: Cell) -> bool:
    """Whether a cell of the confusion is one of wrong detections or missed objects."""
    return cell[0] != cell[1]


def _known(value: float) -> float | None:
    """A number of the COCO API, which has -1 for none."""
    return None if value == -1 else float(value)


def _best_f1(
    overlaps: Overlaps,
    is_right: np.ndarray,
    counts: np.ndarray,
    chosen: np.ndarray,
    positives: int,
) -> dict[str, float | None]:
    """The score from which on F1 is best, and what it is there; no score if nothing is right."""
    where = np.flatnonzero(chosen & counts)
    where = where[np.argsort(-overlaps.score[where], kind="stable")]
    score, right = overlaps.score[where], np.cumsum(is_right[where])
    f1 = 2 * right / (np.arange(1, len(where) + 1) + positives)
    f1[:-1][score[1:] == score[:-1]] = -1  # no threshold divides equal scores
    if not positives:
        return dict.fromkeys(("threshold", "f1", "precision", "recall"))
    if not len(f1) or f1.max() <= 0:
        return {"threshold": None, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    best = int(f1.argmax())
    return {
        "threshold": float(score[best]),
        "f1": float(f1[best]),
        "precision": float(right[best] / (best + 1)),
        "recall": float(right[best] / positives),
    }


def _classes(
    found: Accumulated,
    overlaps: Overlaps,
    is_right: np.ndarray,
    counts: np.ndarray,
    own: list[np.ndarray],
) -> list[dict[str, Any]]:
    real = ~overlaps.is_crowd
    rows = []
    for label, name in enumerate(found.classes):
        values = summarize(found.arrays, found.max_dets, label)
        objects = real & (overlaps.object_label == label)
        number = int(objects.sum())
        row: dict[str, Any] = {"name": name}
        row |= {key: _known(values[key]) for key in AP_KEYS}
        row |= {"objects": number, "detections": int(own[label].sum())}
        row["images"] = len(np.unique(overlaps.object_image[objects]))
        rows.append(row | _best_f1(overlaps, is_right, counts, own[label], number))
    return rows


def _curves(precision: np.ndarray) -> list[Any]:
    """Precision over recall of each class and of all: (T, R, K, A, M) to lists."""
    values = precision[:, :, :, 0, -1]
    three = np.stack([values[0], values[5], values.mean(0)])  # (3, R, K)
    known = np.asarray((three > -1).all((0, 1)))
    curves = [three[:, :, k].round(3).tolist() if known[k] else None for k in range(len(known))]
    return [*curves, three[:, :, known].mean(2).round(3).tolist() if known.any() else None]


def _calibration(score: np.ndarray, is_right: np.ndarray) -> list[list[float]]:
    places = np.clip((score * BINS).astype(int), 0, BINS - 1)
    numbers = np.bincount(places, minlength=BINS)
    sums = (np.bincount(places, values, minlength=BINS) for values in (score, is_right))
    means = [values / np.maximum(numbers, 1) for values in sums]
    return [
        [int(number), float(mean), float(right)]
        for number, mean, right in zip(numbers, *means, strict=True)
    ]


def _cells(overlaps: Overlaps, matched: np.ndarray, least: float) -> list[dict[Cell, int]]:
    """Count for each image which class was taken for which, detections of its class first."""
    none = overlaps.num_classes
    kept = overlaps.score >= least
    partner = np.where(kept, matched, -1)
    free = ~overlaps.is_crowd
    free[partner[partner >= 0]] = False
    detection, target = overlaps.pairs.T
    # What is left over is given to objects of other classes, the surest first, each the closest.
    chosen = (overlaps.iou >= FOUND) & kept[detection] & (partner[detection] < 0) & free[target]
    best: dict[int, tuple[float, int]] = {}
    where = np.flatnonzero(chosen & ~overlaps.of_same_class)
    waiting, taken = -1, np.zeros(len(free), bool)

    def settle(detection: int) -> None:
        if detection in best:
            partner[detection] = best[detection][1]
            taken[best[detection][1]] = True

    for one, other, iou in zip(detection[where], target[where], overlaps.iou[where], strict=True):
        if one != waiting:
            settle(waiting)
            waiting = one
        if not taken[other] and iou > best.get(one, (0.0, -1))[0]:
            best[one] = (iou, other)
    settle(waiting)
    free[partner[partner >= 0]] = False
    cells: list[Counter[Cell]] = [Counter() for _ in range(overlaps.num_images)]
    crowds = np.r_[overlaps.is_crowd, False]
    rows = np.where(partner < 0, none, np.r_[overlaps.object_label, none][partner])
    for one in np.flatnonzero(kept & ~crowds[partner]):
        cells[overlaps.image[one]][int(rows[one]), int(overlaps.label[one])] += 1
    for one in np.flatnonzero(free):
        cells[overlaps.object_image[one]][int(overlaps.object_label[one]), none] += 1
    return [dict(image) for image in cells]
