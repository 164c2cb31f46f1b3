"""Soft-NMS against a plain reference written from the paper (arXiv 1704.04503, figure 2)."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.cases.soft_nms import crowd as detections
from benchmarks.plain import plain_soft_nms
from mmbeit3.ops import soft_nms
from mmbeit3.utils import InputError

METHODS = ["linear", "gaussian", "naive"]
F = np.float32


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), F(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), F(0))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if shared > 0 else F(0)


def factor(iou: np.float32, method: str, threshold: float, sigma: float) -> np.float32:
    if method == "gaussian":
        return F(np.exp(-(iou * iou) / F(sigma)))
    if iou < F(threshold):
        return F(1)
    return F(1) - iou if method == "linear" else F(0)


def reference(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
) -> tuple[list[int], list[float]]:
    """One box after the other, in float32: indices and final scores, best first."""
    box, score, label = boxes.float().numpy(), scores.float().numpy().copy(), labels.tolist()
    left = [i for i in range(len(label)) if score[i] >= F(min_score)]
    keep, final = [], []
    while left:
        best = min(left, key=lambda i: (-score[i], label[i], i))
        keep.append(best)
        final.append(float(score[best]))
        left.remove(best)
        for i in left:
            if label[i] == label[best]:
                score[i] *= factor(overlap(box[i], box[best]), method, iou_threshold, sigma)
        left = [i for i in left if score[i] >= F(min_score) and score[i] > 0]
    return keep, final


def crowd(number: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, some outside of the image."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * 120 - 40
    size = torch.rand(number, 2, generator=generator) * 60 + 1
    scores = torch.rand(number, generator=generator)
    labels = torch.randint(classes, (number,), generator=generator)
    return torch.cat((corner, corner + size), dim=1), scores, labels


def ties(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Duplicates, boxes without area, equal scores in several classes; few different values."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(-2, 3, (60, 2), generator=generator).float() * 4
    size = torch.randint(0, 3, (60, 2), generator=generator).float() * 8
    scores = torch.randint(1, 5, (60,), generator=generator).float() / 4
    labels = torch.randint(3, (60,), generator=generator) * 7
    return torch.cat((corner, corner + size), dim=1), scores, labels


CASES = {
    "one class": lambda: crowd(120, 1, 0),
    "few classes": lambda: crowd(150, 5, 1),
    "as many classes as boxes": lambda: (*crowd(50, 1, 2)[:2], torch.arange(50).flip(0)),
    "one box": lambda: crowd(1, 1, 3),
    "ties": lambda: ties(4),
    "more ties": lambda: ties(5),
    "all the same": lambda: (torch.ones(9, 4), torch.full((9,), 0.5), torch.zeros(9).long()),
    "no area": lambda: (torch.zeros(9, 4), torch.rand(9), torch.zeros(9).long()),
    "all too low": lambda: (crowd(9, 2, 6)[0], torch.full((9,), 1e-4), torch.zeros(9).long()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str, method: str) -> None:
    boxes, scores, labels = CASES[case]()
    for options in ({}, {"iou_threshold": 0.6, "min_score": 0.2}, {"sigma": 0.1, "min_score": 0}):
        keep, final = reference(boxes, scores, labels, method=method, **options)
        dets, out_labels, out_keep = soft_nms(boxes, scores, labels, method=method, **options)
        assert out_keep.tolist() == keep
        assert torch.equal(out_labels, labels[keep])
        assert torch.equal(dets[:, :4], boxes[keep])
        # exp() of numpy and of torch may differ in the last bit, all else is the same arithmetic.
        tolerance = 1e-6 if method == "gaussian" else 0
        torch.testing.assert_close(dets[:, 4], torch.tensor(final), rtol=tolerance, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_max_per_img_gives_the_first_of_all(case: str, method: str) -> None:
    inputs = CASES[case]()
    everything = soft_nms(*inputs, method=method)
    for number in (1, 2, 15, 16, 17, 33, 1000):
        first = soft_nms(*inputs, method=method, max_per_img=number)
        for part, whole in zip(first, everything, strict=True):
            assert torch.equal(part, whole[:number])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype, method: str) -> None:
    boxes, scores, labels = crowd(100, 3, 7)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    dets, _, keep = soft_nms(boxes, scores, labels, method=method)
    assert dets.dtype == dtype
    assert torch.equal(dets[:, :4], boxes[keep])
    if dtype == torch.float64:  # the float32 inputs are exact in float64
        expected, final = reference(boxes, scores, labels, method=method)
        torch.testing.assert_close(dets[:, 4], torch.tensor(final, dtype=dtype), rtol=1e-5, atol=0)
        assert keep.tolist() == expected
    else:  # computed in float32, rounded at the end
        exact, _, expected = soft_nms(boxes.float(), scores.float(), labels, method=method)
        assert torch.equal(keep, expected)
        assert torch.equal(dets[:, 4], exact[:, 4].to(dtype))


def test_float64_is_computed_in_float64() -> None:
    boxes = torch.tensor([[0, 0, 3, 1], [1, 0, 4, 1]], dtype=torch.float64)
    scores, labels = torch.tensor([0.9, 0.8], dtype=torch.float64), torch.zeros(2).long()
    assert soft_nms(boxes, scores, labels)[0][1, 4].item() == 0.8 * (1 - 2 / 4)
    third = boxes + torch.tensor([0, 0, 0, 1 / 3], dtype=torch.float64)
    dets, _, _ = soft_nms(third, scores, labels, method="gaussian", sigma=0.7)
    assert dets[1, 4].item() == pytest.approx(0.8 * np.exp(-0.25 / 0.7), rel=1e-14)


@pytest.mark.parametrize("max_per_img", [-1, 5])
def test_empty(max_per_img: int) -> None:
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()
    dets, labels, keep = soft_nms(*empty, max_per_img=max_per_img)
    assert dets.shape == (0, 5) and labels.shape == keep.shape == (0,)
    assert (dets.dtype, labels.dtype, keep.dtype) == (torch.float32, torch.int64, torch.int64)


def test_values_that_are_not_finite_are_left_out() -> None:
    boxes, scores, labels = crowd(40, 2, 8)
    sound = torch.arange(40) >= 3
    boxes[0, 2], boxes[1, 0], scores[2] = torch.nan, torch.inf, torch.nan
    for method in METHODS:
        expected, _, kept = soft_nms(boxes[sound], scores[sound], labels[sound], method=method)
        dets, _, keep = soft_nms(boxes, scores, labels, method=method)
        assert torch.equal(dets, expected) and torch.equal(keep, kept + 3)


def test_inputs_stay_as_they_were() -> None:
    inputs = crowd(50, 2, 9)
    before = [tensor.clone() for tensor in inputs]
    soft_nms(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": torch.zeros(2, 5)}, r"\(2, 5\), \(2,\), \(2,\).*expected \(N, 4\)"),
        ({"boxes": torch.tensor(1.0)}, r"expected \(N, 4\)"),
        ({"scores": torch.zeros(3)}, r"\(3,\)"),
        ({"labels": torch.zeros(2, 1).long()}, r"\(2, 1\)"),
        ({"boxes": torch.zeros(2, 4).long()}, "floating point"),
        ({"labels": torch.zeros(2)}, "integers"),
        ({"method": "cubic"}, "'cubic'.*naive, linear, gaussian"),
        ({"min_score": -1.0}, "min_score -1.0"),
        ({"method": "gaussian", "sigma": 0.0}, "sigma 0.0"),
    ],
)
def test_bad_input(change: dict, words: str) -> None:
    good = {"boxes": torch.zeros(2, 4), "scores": torch.ones(2), "labels": torch.zeros(2).long()}
    with pytest.raises(InputError, match=words):
        soft_nms(**(good | change))


def test_five_times_faster_than_a_loop_to_the_end() -> None:
    boxes, scores, labels = detections(20_000, 80)
    ours = []

    def run_ours(times: int) -> Tensor:
        for _ in range(times):
            start = time.perf_counter()
            _, _, keep = soft_nms(
                boxes, scores, labels, iou_threshold=0.5, min_score=0.05, max_per_img=100
            )
            ours.append(time.perf_counter() - start)
        return keep

    run_ours(5)
    start = time.perf_counter()
    expected = plain_soft_nms(boxes, scores, labels, 0.5, 0.05)
    slow = time.perf_counter() - start
    keep = run_ours(5)
    assert torch.equal(keep, expected[:100])
    fast = statistics.median(ours)
    print(f"\nplain {slow:.3f} s, mmbeit3 {fast:.4f} s: {slow / fast:.0f} times faster")
    assert slow >= 5 * fast
