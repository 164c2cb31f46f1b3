"""Results compared over draws of the images, the same for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

CONFIDENCE = 0.95
SAMPLES = 500  # draws of images for an interval
Measure = Callable[[np.ndarray], np.ndarray]
"""Gives values (K,) of images that are there so often (I,); NaN for what cannot be measured."""


def draw_times(number: int, samples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw as many images as there are, with replacement.

    Args:
        number: I, how many images there are.
        samples: How often they are drawn.
        seed: Of the draws. Defaults to 0.

    Yields:
        (I,), how often each image was drawn.
    """
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(generator.integers(0, number, number), minlength=number)


def with_mean(values: np.ndarray) -> np.ndarray:
    """Add the mean of the categories (K,) that have objects behind them; NaN if none has."""
    known = values[~np.isnan(values)]
    return np.r_[values, known.mean() if len(known) else np.nan]


def interval(values: np.ndarray) -> list[float | None]:
    """The middle 95 % of samples (S,), as their ends; None where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return [None, None]
    outside = (1 - CONFIDENCE) / 2
    return np.quantile(known, [outside, 1 - outside]).tolist()


def group_means(scores: np.ndarray, *groups: tuple[np.ndarray, int]) -> Measure:
    """Measure the mean score of each of several groups and, last, of all.

    Args:
        scores: (N,), of items that stand for images here.
        *groups: The group of each item (N,), and how many groups there are.
    """

    def measure(times: np.ndarray) -> np.ndarray:
        parts = []
        for group, number in (*groups, (np.zeros(len(scores), int), 1)):
            weights = np.bincount(group, times, number)
            with np.errstate(invalid="ignore"):
                parts.append(np.bincount(group, times * scores, number) / weights)
        return np.concatenate(parts)

    return measure


def compare(first: Measure, other: Measure, number: int, seed: int = 0) -> dict[str, Any]:
    """Measure by how much another result is above the first.

    Args:
        first: The one.
        other: The other, on the same images.
        number: How many images there are.
        seed: Of the draws. Defaults to 0.

    Returns:
        ``difference``, and ``interval``, the middle 95 % over :data:`SAMPLES` draws of the images
        with replacement, the same for both: of each value. None where there is none.
    """
    once = np.ones(number, np.int64)
    drawn = np.array([other(times) - first(times) for times in draw_times(number, SAMPLES, seed)])
    return {
        "difference": [
            None if np.isnan(value) else value for value in (other(once) - first(once)).tolist()
        ],
        "interval": [interval(values) for values in drawn.T],
        "samples": SAMPLES,
        "seed": seed,
    }
