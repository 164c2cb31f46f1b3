"""Average precision of categories from sorted detections, also of images drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from mmbeit3.evaluation.overlaps import IOU_THRESHOLDS, Overlaps, match

RECALLS = np.linspace(0, 1, 101)  # of the COCO API


class PrecisionCurves:
    """Precision over recall of K categories, of detections that have weights.

    Args:
        label (np.ndarray): (P,), category of each detection, sorted by it and the surest first.
        is_true (np.ndarray): (P,), bool, whether it finds an object.
        counts (np.ndarray): (P,), bool, whether it counts at all.
        num_classes (int): K.
        recalls (np.ndarray): (L,), where precision is looked up. Defaults to the COCO API's.
    """

    def __init__(
        self,
        label: np.ndarray,
        is_true: np.ndarray,
        counts: np.ndarray,
        num_classes: int,
        recalls: np.ndarray = RECALLS,
    ) -> None:
        self.true = np.flatnonzero(is_true & counts)
        self.label = label[self.true]
        self.recalls = recalls
        self._ignored = np.flatnonzero(~counts)
        self._ignored_before = np.searchsorted(self._ignored, self.true)
        self._starts = np.searchsorted(label, np.arange(num_classes + 1))
        self._ignored_starts = np.searchsorted(self._ignored, self._starts)
        self._true_starts = np.searchsorted(self.true, self._starts)

    def average_precision(
        self, positives: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Average precision over the recalls.

        Args:
            positives: (K,), whole, how many objects there are to find, weights included.
            weights: (P,), whole, how often each detection is there. Defaults to None, once.

        Returns:
            (K,), NaN for categories without objects.
        """
        if weights is None:
            weights = np.ones(self._starts[-1], np.int64)
        everything = np.r_[0, np.cumsum(weights)]
        ignored = np.r_[0, np.cumsum(weights[self._ignored])]
        found = np.r_[0, np.cumsum(weights[self.true])]
        base = everything[self._starts] - ignored[self._ignored_starts]
        counted = everything[self.true + 1] - ignored[self._ignored_before] - base[self.label]
        own = found[1:] - found[self._true_starts][self.label]
        precision = own / np.maximum(counted, 1)
        # the greatest precision at this recall or above, of each category: a running maximum from
        # the end, where each category lies above the ones that were before
        lift = 2.0 * self.label
        best = np.maximum.accumulate((precision - lift)[::-1])[::-1] + lift
        best = np.r_[best, 0.0]
        needed = self._needed(positives) + found[self._true_starts[:-1], None]
        place = np.searchsorted(found[1:], needed.ravel()).reshape(needed.shape)
        place[place >= self._true_starts[1:, None]] = len(best) - 1
        return np.where(positives > 0, best[place].mean(1), np.nan)

    def _needed(self, positives: np.ndarray) -> np.ndarray:
        """Least number of found objects that reaches each recall, as numbers of float64 compare."""
        total = np.maximum(positives, 1)[:, None]
        needed = np.ceil(self.recalls * total)
        needed -= (needed - 1) / total >= self.recalls
        needed += needed / total < self.recalls
        return np.maximum(needed, 1).astype(np.int64)


class Resampling:
    """AP of a data set whose images are drawn anew.

    Args:
        overlaps (Overlaps): The detections and the objects.
        matched (Sequence[np.ndarray]): The object of each detection at each of
            :data:`IOU_THRESHOLDS`, as :func:`match` gives it.
    """

    def __init__(self, overlaps: Overlaps, matched: Sequence[np.ndarray]) -> None:
        order = np.lexsort((-overlaps.score, overlaps.label))
        is_crowd = np.r_[overlaps.is_crowd, False]
        self._image = overlaps.image[order]
        objects = ~overlaps.is_crowd
        self._object_image = overlaps.object_image[objects]
        self._object_label = overlaps.object_label[objects]
        self._num_classes = overlaps.num_classes
        curves = partial(PrecisionCurves, overlaps.label[order])
        self._curves = [
            curves(own[order] >= 0, ~is_crowd[own[order]], overlaps.num_classes) for own in matched
        ]

    def average_precision(self, times: np.ndarray) -> np.ndarray:
        """AP of each category over the IoU thresholds, (K,), NaN without objects.

        Args:
            times: (I,), how often each image is there.
        """
        positives = np.bincount(
            self._object_label, times[self._object_image], minlength=self._num_classes
        ).astype(np.int64)
        weights = times[self._image]
        values = [curves.average_precision(positives, weights) for curves in self._curves]
        return np.mean(values, 0)


def resample(overlaps: Overlaps) -> Resampling:
    """Match detections at all thresholds of the COCO API."""
    return Resampling(overlaps, [match(overlaps, threshold) for threshold in IOU_THRESHOLDS])
