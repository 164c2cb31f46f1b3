"""What a report on class maps says: by class, by image, and of one result to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbeit3.evaluation import resampling

IGNORED = 255  # pixels that do not count, of a truth; that have no class, of a prediction


def count_pairs(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count which value of a label map is which one of a prediction.

    Args:
        truth: (H, W) uint8.
        prediction: (H, W) uint8.

    Returns:
        (N, 3) int64: value, predicted value and how many pixels have both, without those that are
        ignored.
    """
    joint = np.bincount((truth.astype(np.uint16) << 8 | prediction).ravel(), minlength=1 << 16)
    joint[IGNORED << 8 :] = 0
    codes = np.flatnonzero(joint)
    return np.stack([codes >> 8, codes & 255, joint[codes]], 1)


@dataclass(frozen=True)
class SegmentationNumbers:
    """What is measured of a result.

    Attributes:
        metrics (dict): ``aAcc``, ``mIoU`` and ``mAcc`` in percent, as
            :class:`mmbeit3.evaluation.IoUMetric` has them; None without pixels.
        classes (list[dict]): Of each class ``name``, ``IoU``, ``Acc`` and ``precision`` in percent,
            how many ``pixels`` in how many ``images`` the truth has, and their ``share``, and how
            many are ``predicted``.
        confusion (np.ndarray): (K, K) pixels, classes of the truth in rows, of the prediction in
            columns; (K, K + 1) where pixels were given no class.
        cells (list[np.ndarray]): For each image, (N, 3), cells of the confusion that are not 0.
        wrong (np.ndarray): (I,), the part of each image's pixels that is wrong.
    """

    metrics: dict[str, float | None]
    classes: list[dict[str, Any]]
    confusion: np.ndarray
    cells: list[np.ndarray]
    wrong: np.ndarray
    _areas: np.ndarray

    def iou(self, times: np.ndarray) -> np.ndarray:
        """IoU in percent of each class and, last, their mean, of images drawn anew.

        Args:
            times: (I,), how often each image is there.

        Returns:
            (K + 1,), NaN for classes that are nowhere.
        """
        intersection, union = np.tensordot(times, self._areas, 1)
        return resampling.with_mean(_percent(intersection, union))

    def as_json(self) -> dict[str, Any]:
        """The numbers for a program; a number that cannot be measured is null."""
        return {
            "metrics": self.metrics,
            "classes": self.classes,
            "confusion": self.confusion.tolist(),
        }


def measure(pairs: Sequence[np.ndarray], classes: Sequence[str]) -> SegmentationNumbers:
    """Measure a result.

    Args:
        pairs: For each image what :func:`count_pairs` counted.
        classes: Names of the K classes, the values 0 to K - 1.
    """
    number = len(classes)
    cells = [np.stack([own[:, 0], own[:, 1].clip(max=number), own[:, 2]], 1) for own in pairs]
    areas = np.zeros((len(cells), 2, number))
    confusion = np.zeros((number, number + 1), np.int64)
    images = np.zeros(number, np.int64)
    wrong = np.zeros(len(cells))
    for index, own in enumerate(cells):
        row, column, pixels = own.T
        np.add.at(confusion, (row, column), pixels)
        truth = np.bincount(row, pixels, number)
        right = np.bincount(row, pixels * (row == column), number)
        predicted = np.bincount(column, pixels, number + 1)[:number]
        areas[index] = right, truth + predicted - right
        images += truth > 0
        wrong[index] = 1 - right.sum() / max(1, truth.sum())
    truth, predicted = confusion.sum(1), confusion.sum(0)[:number]
    right = confusion.diagonal()
    columns = {
        "IoU": _percent(right, truth + predicted - right),
        "Acc": _percent(right, truth),
        "precision": _percent(right, predicted),
    }
    rows = [
        {"name": name}
        | {key: _known(values[label]) for key, values in columns.items()}
        | {"pixels": int(truth[label]), "share": float(100 * truth[label] / max(1, truth.sum()))}
        | {"images": int(images[label]), "predicted": int(predicted[label])}
        for label, name in enumerate(classes)
    ]
    metrics = {
        "aAcc": _known(_percent(right.sum(), truth.sum()).item()),
        "mIoU": _known(resampling.with_mean(columns["IoU"])[-1]),
        "mAcc": _known(resampling.with_mean(columns["Acc"])[-1]),
    }
    used = number + bool(confusion[:, number].any())
    return SegmentationNumbers(metrics, rows, confusion[:, :used], cells, wrong, areas)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    known = np.where(whole > 0, whole, np.nan)
    return 100 * part / known


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
