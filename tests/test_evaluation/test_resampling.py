"""Differences of results, with the interval over images drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

from mmbeit3.evaluation.resampling import SAMPLES, compare


def mean_of(scores: np.ndarray):
    return lambda times: np.array([times @ scores / times.sum(), np.nan])


def test_an_interval_is_that_of_the_means_difference() -> None:
    draw = np.random.default_rng(0)
    first = draw.random(400)
    other = first + draw.normal(0.1, 0.2, 400)
    found = compare(mean_of(first), mean_of(other), 400)
    assert found["difference"] == [pytest.approx((other - first).mean()), None]
    (low, high), nothing = found["interval"]
    error = 1.96 * (other - first).std() / 20
    assert low == pytest.approx(found["difference"][0] - error, abs=0.15 * error)
    assert high == pytest.approx(found["difference"][0] + error, abs=0.15 * error)
    assert nothing == [None, None] and found["samples"] == SAMPLES
    assert compare(mean_of(first), mean_of(other), 400) == found  # the same draws again


def test_both_results_have_the_same_images() -> None:
    scores = np.random.default_rng(1).random(30)
    assert compare(mean_of(scores), mean_of(scores + 1), 30)["interval"][0] == pytest.approx([1, 1])
