"""The convolutions of the ViT-Adapter that look at the image beside the tower."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class SpatialPrior(nn.Module):
    """Spatial prior module of the ViT-Adapter (`arXiv 2205.08534`_, section 3.3).

    A convolutional stem of stride 4 and three convolutions of stride 2; a 1x1 convolution brings
    each of the four maps to the tower's width. Every map has ``ceil(size / stride)`` cells.

    .. _arXiv 2205.08534: https://arxiv.org/abs/2205.08534

    Args:
        in_channels (int): Channels of the image.
        inner_channels (int): Channels of the stem; the maps have 1, 2, 4 and 4 times as many.
        embed_dims (int): Width C of the tower.
        norm (Callable[[int], nn.Module]): Makes the norm of a convolution of so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        embed_dims: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = (times * inner_channels for times in (1, 2, 4, 4))
        self.stem = nn.Sequential(
            *_conv(in_channels, c1, 2, norm),
            *_conv(c1, c1, 1, norm),
            *_conv(c1, c1, 1, norm),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv(before, after, 2, norm))
            for before, after in ((c1, c2), (c2, c3), (c3, c4))
        )
        self.projections = nn.ModuleList(nn.Conv2d(c, embed_dims, 1) for c in (c1, c2, c3, c4))
        self.level_embed = nn.Parameter(torch.empty(3, embed_dims))
        nn.init.normal_(self.level_embed)
        self.apply(init_conv)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Make the four maps of images (B, in_channels, H, W).

        Returns:
            list[Tensor]: (B, C, H / 4, W / 4), then those of the strides 8, 16 and 32, to which
            the level embedding is added.
        """
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        maps = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        levels = self.level_embed[:, :, None, None]
        return maps[:1] + [x + level for x, level in zip(maps[1:], levels, strict=True)]


def init_conv(module: nn.Module) -> None:
    """Draw a convolution from a normal distribution, by its fan out; leave other modules."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _conv(
    before: int, after: int, stride: int, norm: Callable[[int], nn.Module]
) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        norm(after),
        nn.ReLU(inplace=True),
    ]
