"""The convolutions beside the tower: sizes, norms, start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmbeit3.models.layers import SpatialPrior


def prior(norm=nn.BatchNorm2d) -> SpatialPrior:
    torch.manual_seed(0)
    return SpatialPrior(3, 8, 24, norm)


@pytest.mark.parametrize("size", [(64, 96), (300, 300), (61, 35), (1, 5)])
def test_maps_have_as_many_cells_as_cover_the_image(size: tuple[int, int]) -> None:
    maps = prior().eval()(torch.randn(2, 3, *size))
    for x, stride in zip(maps, (4, 8, 16, 32), strict=True):
        assert x.shape == (2, 24, *(math.ceil(side / stride) for side in size))


def test_every_convolution_with_a_3x3_kernel_has_its_norm() -> None:
    seen = []

    def norm(channels: int) -> nn.Module:
        seen.append(channels)
        return nn.GroupNorm(2, channels)

    module = prior(norm)
    assert seen == [8, 8, 8, 16, 32, 32]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_the_level_embedding_tells_the_pyramids_maps_apart() -> None:
    module, x = prior().eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = module(x)
        module.level_embed += torch.tensor([1.0, 2.0, 3.0])[:, None]
        after = module(x)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        torch.testing.assert_close(new - old, torch.full_like(old, float(index)))


def test_convolutions_start_by_their_fan_out() -> None:
    conv = SpatialPrior(3, 64, 24, nn.BatchNorm2d).stages[1][0]
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
