"""RoIAlign on the CPU against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

from mmbeit3.ops import multi_level_roi_align
from mmbeit3.ops.cpu import roi_align as module

NAN, INF = float("nan"), float("inf")


def align(features: Tensor, rois: Tensor, size: tuple[int, int], *args: float | bool) -> Tensor:
    """With the arguments of torchvision's."""
    scale, *others = args
    levels = torch.zeros(len(rois), dtype=torch.long)
    return multi_level_roi_align([features], rois, levels, size, [scale], *others)


def random_rois(number: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """For a map of 160 x 200 units: small and huge, inside, across the border and outside."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, generator=generator, dtype=dtype) * 400 - 100
    extents = (torch.rand(number, 2, generator=generator, dtype=dtype) * 13 - 1).exp2()
    corners[::5] = corners[::5].round()  # the samples of these hit pixels and the border
    extents[::5] = (extents[::5] / 28).round() * 28
    images = torch.randint(3, (number, 1), generator=generator)
    return torch.cat((images.to(dtype), corners, corners + extents), dim=1)


def random_map(dtype: torch.dtype, height: int = 40, width: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 5, height, width, generator=generator, dtype=dtype)


@pytest.mark.parametrize("size", [(7, 7), (3, 5)])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_torchvision(
    dtype: torch.dtype, tolerance: float, sampling_ratio: int, aligned: bool, size: tuple[int, int]
) -> None:
    features, rois = random_map(dtype), random_rois(200, dtype)
    expected = torchvision_roi_align(features, rois, size, 0.25, sampling_ratio, aligned)
    for memory in (torch.contiguous_format, torch.channels_last):
        layout = features.contiguous(memory_format=memory)
        pooled = align(layout, rois, size, 0.25, sampling_ratio, aligned)
        torch.testing.assert_close(pooled, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_rois_without_extent(sampling_ratio: int, aligned: bool) -> None:
    features = random_map(torch.float64)
    rois = torch.tensor(
        [[0, 9, 9, 9, 9], [1, 20, 30, 20, 70], [2, 0, 0, 0, 0]], dtype=torch.float64
    )
    pooled = align(features, rois, (2, 2), 0.25, sampling_ratio, aligned)
    expected = torchvision_roi_align(features, rois, (2, 2), 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(pooled, expected)
    assert pooled.any() != (sampling_ratio == 0 and aligned)


def test_rois_turned_round() -> None:
    features = random_map(torch.float64)
    rois = torch.tensor([[0, 90, 80, 30, 20], [1, 90, 20, 30, 80]], dtype=torch.float64)
    for aligned in (True, False):
        pooled = align(features, rois, (3, 3), 0.25, 2, aligned)
        expected = torchvision_roi_align(features, rois, (3, 3), 0.25, 2, aligned)
        torch.testing.assert_close(pooled, expected)
    assert not align(features, rois, (3, 3), 0.25, 0, True).any()  # torchvision crashes on these


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_rois_that_no_map_can_have(sampling_ratio: int) -> None:
    rois = torch.tensor(
        [
            [0, NAN, 0, 9, 9],
            [0, 0, 0, INF, 9],
            [0, -INF, 0, INF, 9],
            [0, -3e38, 0, 3e38, 9],
            [0, 1, 1, 6, 6],
        ]
    )
    pooled = align(torch.ones(1, 2, 8, 8), rois, (2, 2), 1.0, sampling_ratio, True)
    assert not pooled[:4].any()
    torch.testing.assert_close(pooled[4], torch.ones(2, 2, 2))


def test_samples_that_rounding_puts_on_the_next_pixel() -> None:
    """The first of three is at 1 - 2e-7 and the last at 3, which has a neighbor too many."""
    roi = torch.tensor([[0.0, 0.4999997615814209, 0.4999997615814209, 6.5, 6.5]])
    features = random_map(torch.float32, 8, 8)
    pooled = align(features, roi, (2, 2), 1.0, 0, False)
    torch.testing.assert_close(pooled, torchvision_roi_align(features, roi, (2, 2), 1.0, 0, False))


def test_a_map_of_one_pixel() -> None:
    features = random_map(torch.float64, 1, 1)
    rois = random_rois(100, torch.float64)
    rois[:, 1:] /= 50
    pooled = align(features, rois, (2, 3), 0.25, 0, True)
    torch.testing.assert_close(pooled, torchvision_roi_align(features, rois, (2, 3), 0.25, 0, True))
    assert pooled.any()


def test_each_roi_is_pooled_from_its_level() -> None:
    maps = [random_map(torch.float64, 40 >> i, 48 >> i) + i for i in range(3)]
    scales = [0.25, 0.125, 0.0625]
    rois = random_rois(60, torch.float64)
    levels = torch.arange(60) % 5 - 1
    pooled = multi_level_roi_align(maps, rois, levels, (4, 4), scales)
    for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        own = levels == level
        expected = torchvision_roi_align(features, rois[own], 4, scale, 0, True)
        torch.testing.assert_close(pooled[own], expected)
    assert not pooled[(levels < 0) | (levels > 2)].any()


def test_memory_is_bounded_without_a_trace_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = random_map(torch.float64), random_rois(50, torch.float64)
    whole = align(features, rois, (7, 7), 0.25)
    sizes, pool = [], module._pool
    monkeypatch.setattr(module, "_MAX_PIXELS", 20_000)
    monkeypatch.setattr(module, "_pool", lambda *args: (sizes.append(len(args[1])), pool(*args))[1])
    assert torch.equal(align(features, rois, (7, 7), 0.25), whole)
    assert len(sizes) > 5 and max(sizes) > 1 and min(sizes) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_pooled_in_float32(dtype: torch.dtype) -> None:
    features, rois = random_map(torch.float32).to(dtype), random_rois(20, torch.float32)
    pooled = align(features, rois, (2, 2), 0.25)
    assert torch.equal(pooled, align(features.float(), rois, (2, 2), 0.25).to(dtype))


@pytest.mark.parametrize("number", [0, 6])
def test_output_is_channels_last_and_has_no_gradient(number: int) -> None:
    features = random_map(torch.float32).requires_grad_()
    pooled = align(features, random_rois(number, torch.float32), (2, 3), 0.25)
    assert pooled.shape == (number, 5, 2, 3) and not pooled.requires_grad
    assert pooled.is_contiguous(memory_format=torch.channels_last)
