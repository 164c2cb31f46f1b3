"""The pyramid, against the layers of detectron2's definition applied one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.models import SimpleFeaturePyramid
from mmbeit3.utils import InputError


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """detectron2's channel-first LayerNorm, eps 1e-6."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    x = (x - mean) / (variance + 1e-6).sqrt()
    return x * weight[:, None, None] + bias[:, None, None]


def by_hand(neck: SimpleFeaturePyramid, x: Tensor) -> list[Tensor]:
    """Section 2.1 of the ViTDet definition: p2 to p6."""
    p2, p3, p4, p5 = ([layer for layer in level] for level in neck.levels)
    up = F.conv_transpose2d(x, p2[0].weight, p2[0].bias, stride=2)
    up = F.gelu(channel_norm(up, p2[1].weight, p2[1].bias))
    starts = [
        F.conv_transpose2d(up, p2[3].weight, p2[3].bias, stride=2),
        F.conv_transpose2d(x, p3[0].weight, p3[0].bias, stride=2),
        x,
        F.max_pool2d(x, 2, 2),
    ]
    outs = []
    for start, layers in zip(starts, (p2, p3, p4, p5), strict=True):
        conv1, norm1, conv3, norm3 = layers[-4:]
        assert conv1.bias is None and conv3.bias is None
        y = channel_norm(F.conv2d(start, conv1.weight), norm1.weight, norm1.bias)
        y = F.conv2d(y, conv3.weight, padding=1)
        outs.append(channel_norm(y, norm3.weight, norm3.bias))
    return [*outs, outs[-1][..., ::2, ::2]]


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_equals_the_definition(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(32, out_channels=16)
    for param in neck.parameters():
        torch.nn.init.normal_(param, std=0.3)
    x = torch.randn(2, 32, *size)
    outs = neck((torch.zeros(1), x))
    for got, want in zip(outs, by_hand(neck, x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_strides() -> None:
    outs = SimpleFeaturePyramid(32, out_channels=16)([torch.randn(1, 32, 8, 12)])
    assert [tuple(out.shape[1:]) for out in outs] == [
        (16, 32, 48), (16, 16, 24), (16, 8, 12), (16, 4, 6), (16, 2, 3)
    ]  # fmt: skip


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(InputError, match="scale_factors has 3"):
        SimpleFeaturePyramid(32, scale_factors=(3, 1))
    with pytest.raises(InputError, match="num_outs is 2 but scale_factors has 4"):
        SimpleFeaturePyramid(32, num_outs=2)
