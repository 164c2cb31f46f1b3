"""The pyramid: its layers one by one, and its values beside a second writing of the definition.

The definition is detectron2's ``SimpleFeaturePyramid`` (detectron2/modeling/backbone/vit.py).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmbeit3.models import SimpleFeaturePyramid
from mmbeit3.utils import InputError

EPS = 1e-6  # detectron2.layers.LayerNorm


class ChannelNorm(nn.Module):
    """LN over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, EPS).permute(0, 3, 1, 2)


class Definition(nn.Module):
    """The pyramid as ViTDet defines it, p2 to p6 from one map."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()

        def tail(channels: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels, out, 1, bias=False),
                ChannelNorm(out),
                nn.Conv2d(out, out, 3, padding=1, bias=False),
                ChannelNorm(out),
            ]

        self.p2 = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            ChannelNorm(dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
            *tail(dim // 4),
        )
        self.p3 = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2), *tail(dim // 2)
        )  # no norm and no activation before the tail
        self.p4 = nn.Sequential(*tail(dim))
        self.p5 = nn.Sequential(nn.MaxPool2d(2, stride=2), *tail(dim))

    def forward(self, x: Tensor) -> list[Tensor]:
        p5 = self.p5(x)
        p6 = F.max_pool2d(p5, kernel_size=1, stride=2, padding=0)  # LastLevelMaxPool
        return [self.p2(x), self.p3(x), self.p4(x), p5, p6]


def pair(dim: int = 32, out: int = 16) -> tuple[SimpleFeaturePyramid, Definition]:
    """Ours and the definition with the same random weights."""
    torch.manual_seed(0)
    ours, definition = SimpleFeaturePyramid(dim, out_channels=out), Definition(dim, out)
    for theirs, mine in zip(definition.parameters(), ours.parameters(), strict=True):
        assert theirs.shape == mine.shape
        nn.init.normal_(mine, std=0.3)
        theirs.data.copy_(mine.data)
    return ours, definition


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (2, 13)])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e-3])
def test_equals_the_definition(size: tuple[int, int], scale: float) -> None:
    ours, definition = pair()
    if scale < 1:  # without biases the variance is as small as eps, and eps decides
        for neck in (ours, definition):
            for layer in neck.modules():
                if isinstance(layer, nn.ConvTranspose2d):
                    layer.bias.zero_()
    x = torch.randn(2, 32, *size) * scale
    for got, want in zip(ours((x,)), definition(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


# One line a layer: kind, channels in and out, kernel, stride, padding, bias. C = 768.
LAYERS = {
    4: [
        ("ConvTranspose2d", 768, 384, 2, 2, 0, True),
        ("LayerNorm2d", 384, EPS),
        ("GELU",),
        ("ConvTranspose2d", 384, 192, 2, 2, 0, True),
        ("Conv2d", 192, 256, 1, 1, 0, False),
    ],
    2: [
        ("ConvTranspose2d", 768, 384, 2, 2, 0, True),
        ("Conv2d", 384, 256, 1, 1, 0, False),
    ],
    1: [
        ("Conv2d", 768, 256, 1, 1, 0, False),
    ],
    0.5: [
        ("MaxPool2d", 2, 2, 0),
        ("Conv2d", 768, 256, 1, 1, 0, False),
    ],
}
TAIL = [("LayerNorm2d", 256, EPS), ("Conv2d", 256, 256, 3, 1, 1, False), ("LayerNorm2d", 256, EPS)]


def described(layer: nn.Module) -> tuple:
    """A layer as a line of ``LAYERS``."""
    kind = type(layer).__name__
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        assert layer.groups == 1 and layer.dilation == (1, 1)
        sides = (layer.kernel_size[0], layer.stride[0], layer.padding[0])
        return kind, layer.in_channels, layer.out_channels, *sides, layer.bias is not None
    if isinstance(layer, nn.LayerNorm):
        return kind, *layer.normalized_shape, layer.eps
    if isinstance(layer, nn.MaxPool2d):
        return kind, layer.kernel_size, layer.stride, layer.padding
    return (kind,)


@pytest.mark.parametrize("scale", list(LAYERS))
def test_layers_of_each_level(scale: float) -> None:
    with torch.device("meta"):
        neck = SimpleFeaturePyramid(768)
    level = neck.levels[list(LAYERS).index(scale)]
    assert [described(layer) for layer in level] == LAYERS[scale] + TAIL


def test_no_activation_follows_the_tail() -> None:
    """A level is linear in the gain of its last LN, signs included."""
    ours, _ = pair()
    x = torch.randn(1, 32, 8, 8)
    before = ours((x,))
    with torch.no_grad():
        for level in ours.levels:
            level[-1].weight.neg_()
            level[-1].bias.neg_()
    for plus, minus in zip(before[:4], ours((x,))[:4], strict=True):
        assert plus.min() < 0 < plus.max()
        torch.testing.assert_close(plus, -minus)


def test_every_level_reads_the_last_map_only() -> None:
    ours, _ = pair()
    maps = [torch.randn(1, 32, 8, 8, requires_grad=True) for _ in range(3)]
    outs = ours(maps)
    for level, got in enumerate(outs):
        grads = torch.autograd.grad(got.sum(), maps, retain_graph=True, allow_unused=True)
        assert grads[0] is None and grads[1] is None, level
        assert grads[2] is not None, level


def test_p6_is_every_second_value_of_p5() -> None:
    ours, _ = pair()
    p5, p6 = ours((torch.randn(1, 32, 14, 10),))[-2:]
    assert torch.equal(p6, p5[..., ::2, ::2])


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (6, 1)])
def test_a_map_of_one_row_or_column_keeps_it(size: tuple[int, int]) -> None:
    ours, _ = pair()
    x = torch.randn(2, 32, *size)
    p5 = ours((x,))[3]
    assert p5.shape[-2:] == tuple(max(1, side // 2) for side in size)
    repeated = x.repeat(1, 1, *(2 if side == 1 else 1 for side in size))
    torch.testing.assert_close(p5, ours((repeated,))[3])


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
