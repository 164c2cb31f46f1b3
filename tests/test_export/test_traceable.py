"""A trace of a model holds for every size of image, whatever size it was made at."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.export.traceable import check_traceable, make_traceable
from mmbeit3.models import BEiT3, BEiT3Adapter, SimpleFeaturePyramid
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=48)
TOWER: dict[str, Any] = dict(arch=ARCH, img_size=32, patch_size=8)
# Grids that windows divide, that they do not divide, smaller than a window, and of one row.
SIZES = [(50, 83), (64, 64), (32, 32), (97, 40), (17, 12), (8, 120)]


def traced(model: nn.Module, image: Tensor) -> nn.Module:
    make_traceable(model)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, image, check_trace=False)


def assert_same_at_all_sizes(model: nn.Module, sizes: list[tuple[int, int]] = SIZES) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)  # nothing is zero
        images = [torch.randn(1, 3, *size) for size in sizes]
        expected = [model(image) for image in images]
        graph = traced(model, images[0])
        for image, outs in zip(images, expected, strict=True):
            for mine, theirs in zip(graph(image), outs, strict=True):
                torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        dict(window_size=4),
        dict(window_size=3, global_attn_indexes=[1]),
        dict(window_size=4, tile_positions=True),
        dict(window_size=0),
        dict(window_size=0, with_cls_token=True, final_norm=True),
        dict(window_size=4, img_size=(48, 24)),
    ],
)
def test_tower(options: dict[str, Any]) -> None:
    assert_same_at_all_sizes(BEiT3(**TOWER | options).eval())


@pytest.mark.parametrize(
    "options", [dict(), dict(window_size=3, with_cls_token=False), dict(patch_size=14, img_size=28)]
)
def test_adapter(options: dict[str, Any]) -> None:
    assert_same_at_all_sizes(BEiT3Adapter(**TOWER | dict(conv_inplane=8) | options).eval())


def test_pyramid() -> None:
    tower = BEiT3(**TOWER, window_size=4)
    model = nn.Sequential(tower, SimpleFeaturePyramid(32, 16)).eval()
    assert_same_at_all_sizes(model, [size for size in SIZES if min(size) > 8])


class Pooled(nn.Module):
    """Means over 1, 2, 3 and 6 bins."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(bins) for bins in (1, 2, (3, 5), 6))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(pool(x) for pool in self.pools)


def test_adaptive_pooling() -> None:
    assert_same_at_all_sizes(Pooled(), [(7, 9), (1, 1), (3, 5), (60, 44)])


def test_relative_positions_are_refused() -> None:
    model = BEiT3(**TOWER, window_size=4, rel_pos=True)
    with pytest.raises(InputError, match="relative positions"):
        check_traceable(nn.Sequential(model))
