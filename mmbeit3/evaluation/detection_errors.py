"""The six errors of detectors that TIDE tells apart, and the AP that each of them costs.

The definitions are those of TIDE (https://arxiv.org/abs/2008.08115), section 2.2, and the numbers
those of its program, tidecv 1.0.1, which keeps several objects of Python for each detection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbeit3.evaluation.average_precision import PrecisionCurves
from mmbeit3.evaluation.overlaps import LEAST, Overlaps

FOUND = 0.5  # the least IoU of a detection that counts as right
MOST = 100  # detections of an image, the surest
RECALLS = np.arange(101) / 100  # as tidecv computes them; COCO's differ in the last bit
#: Name of each error, and what it is.
ERRORS = {
    "class": "the place is right, the class is not",
    "location": "the class is right, the overlap from 0.1 to 0.5",
    "both": "neither is right",
    "duplicate": "the object was found by a surer detection",
    "background": "there is no object",
    "missed": "an object that no detection would find if it were corrected",
}


@dataclass(frozen=True)
class DetectionErrors:
    """Errors of the detections of a data set.

    Attributes:
        ap50 (float): AP at IoU 0.5 of the detections that were looked at.
        counts (dict[str, int]): How many errors of each name in :data:`ERRORS` there are.
        cost (dict[str, float]): By how much AP at IoU 0.5 grows if all of one kind were corrected.
        by_class (dict[str, list[int]]): The counts of each category: that of the detection, for
            missed objects their own.
    """

    ap50: float
    counts: dict[str, int]
    cost: dict[str, float]
    by_class: dict[str, list[int]]


def find_errors(overlaps: Overlaps, matched: np.ndarray) -> DetectionErrors:
    """Sort the errors at IoU 0.5 by their kind, and correct each kind in turn.

    Args:
        overlaps: The detections and the objects.
        matched: (N,), the object that each detection finds at IoU 0.5, or -1.
    """
    score, label, crowd = overlaps.score, overlaps.label, overlaps.is_crowd
    looked_at = _surest(overlaps)
    finds = (matched >= 0) & ~np.r_[crowd, False][matched] & looked_at
    ignored = (matched >= 0) & ~finds
    is_used = np.zeros(len(crowd), bool)
    is_used[matched[finds]] = True
    pairs = _Pairs(overlaps)
    same, same_iou = pairs.best(overlaps.of_same_class)
    other, other_iou = pairs.best(~overlaps.of_same_class)
    _, used_iou = pairs.best(overlaps.of_same_class & is_used[overlaps.pairs[:, 1]])
    _, any_iou = pairs.best(np.ones(len(overlaps.iou), bool))
    wrong = looked_at & ~finds
    kinds = np.select(
        [
            (same_iou >= LEAST) & (same_iou <= FOUND),
            other_iou >= FOUND,
            used_iou >= FOUND,
            any_iou <= LEAST,
        ],
        ["location", "class", "duplicate", "background"],
        "both",
    )
    target = np.select([kinds == "location", kinds == "class"], [same, other], -1)
    # One detection alone may become the right one for an object that nothing else finds.
    open_target = wrong & (target >= 0) & ~np.r_[is_used, True][target]
    image_order = np.lexsort((np.arange(len(score)), -score, overlaps.image))
    candidates = image_order[open_target[image_order]]
    _, first = np.unique(target[candidates], return_index=True)
    corrected = np.zeros(len(score), bool)
    corrected[candidates[first]] = True
    is_missed = ~crowd & ~is_used
    is_missed[target[candidates]] = False

    positives = overlaps.positives()
    counted = looked_at & ~ignored
    place = np.empty(len(score), np.int64)
    place[image_order] = np.arange(len(score))
    mean = _MeanAP(overlaps, place, finds)
    ap50 = mean(counted, finds, label, positives, as_found=True)
    cost, counts, by_class = {}, {}, {}
    for name in ERRORS:
        if name == "missed":
            lost = np.bincount(overlaps.object_label[is_missed], minlength=len(positives))
            value = mean(counted, finds, label, positives - lost)
        else:
            own = wrong & (kinds == name)
            lost = np.bincount(label[own], minlength=len(positives))
            right = own & corrected
            renamed = np.where(right, overlaps.object_label[target], label)
            value = mean((counted & ~own) | right, finds | right, renamed, positives)
        cost[name] = max(0.0, value - ap50)
        counts[name], by_class[name] = int(lost.sum()), lost.tolist()
    return DetectionErrors(ap50, counts, cost, by_class)


def _surest(overlaps: Overlaps) -> np.ndarray:
    """Whether each detection is among the surest of its image: (N,), bool."""
    order = np.lexsort((-overlaps.score, overlaps.image))
    starts = np.searchsorted(overlaps.image[order], overlaps.image[order])
    chosen = np.zeros(len(order), bool)
    chosen[order] = np.arange(len(order)) - starts < MOST
    return chosen


class _Pairs:
    """Looks up the object that overlaps most."""

    def __init__(self, overlaps: Overlaps) -> None:
        self._detection, self._target = overlaps.pairs.T
        self._iou, self._size = overlaps.iou, len(overlaps.score)
        self._real = ~overlaps.is_crowd[self._target]

    def best(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Object (N,), or -1, and IoU (N,), or 0, of each detection, by chosen pairs (P,)."""
        where = np.flatnonzero(chosen & self._real)
        where = where[np.lexsort((-self._target[where], self._iou[where]))]
        target, iou = np.full(self._size, -1), np.zeros(self._size)
        target[self._detection[where]] = self._target[where]  # the last one stays
        iou[self._detection[where]] = self._iou[where]
        return target, iou


class _MeanAP:
    """Mean AP as tidecv computes it: a category without objects that has detections counts as 0."""

    def __init__(self, overlaps: Overlaps, place: np.ndarray, finds: np.ndarray) -> None:
        self._score, self._place, self._finds = overlaps.score, place, finds

    def __call__(
        self,
        counted: np.ndarray,
        is_true: np.ndarray,
        label: np.ndarray,
        positives: np.ndarray,
        as_found: bool = False,
    ) -> float:
        """The mean; where something was corrected, errors come before what is right of a score."""
        chosen = np.flatnonzero(counted)
        late = np.zeros(len(chosen)) if as_found else self._finds[chosen]
        keys = self._place[chosen], late, -self._score[chosen], label[chosen]
        order = chosen[np.lexsort(keys)]
        curves = PrecisionCurves(
            label[order], is_true[order], np.ones(len(order), bool), len(positives), RECALLS
        )
        values = np.nan_to_num(curves.average_precision(positives))
        exists = (positives > 0) | (np.bincount(label[order], minlength=len(positives)) > 0)
        return float(values[exists].mean()) if exists.any() else 0.0
