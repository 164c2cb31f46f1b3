"""The simple feature pyramid of ViTDet: every level from the one map of a plain backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

MODELS.register_module(name="LN2d", module=LayerNorm2d)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Simple feature pyramid of ViTDet (arXiv 2203.16527, section 3; detectron2's layer order).

    The backbone's last map is scaled by ``scale_factors`` with transposed convolutions or max
    pooling; each level then passes a 1x1 and a 3x3 convolution, each with LN and no activation.
    Levels past the scale factors are strided copies of the last (p6 of ViTDet).

    Args:
        in_channels (int): Channels C of the backbone's map.
        out_channels (int): Channels of every level. Defaults to 256.
        scale_factors (Sequence[float]): Scale of each level against the backbone's map, each one of
            4, 2, 1, 0.5. Defaults to (4, 2, 1, 0.5): strides 4, 8, 16, 32 for patches of 16.
        num_outs (int): Levels to return. Defaults to 5: p2 to p6.
        init_cfg (dict, optional): Initialization, as in mmengine. Defaults to None.

    Raises:
        InputError: for a scale factor or a number of levels that cannot be built.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_outs < len(scale_factors):
            raise InputError(
                f"num_outs is {num_outs} but scale_factors has {len(scale_factors)} levels: "
                "num_outs must be at least that."
            )
        self.scale_factors = tuple(scale_factors)
        self.num_outs = num_outs
        self.levels = nn.ModuleList(
            nn.Sequential(
                *_scaling(in_channels, scale), *_projection(in_channels, out_channels, scale)
            )
            for scale in scale_factors
        )

    def out_strides(self, stride: float) -> tuple[float, ...]:
        """Strides in pixels of the levels, from that of the backbone's map."""
        strides = [stride / scale for scale in self.scale_factors]
        while len(strides) < self.num_outs:
            strides.append(strides[-1] * 2)
        return tuple(strides)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (Sequence[Tensor]): Maps of the backbone; the last, (B, C, H, W), is used.

        Returns:
            tuple[Tensor, ...]: ``num_outs`` maps (B, out_channels, H * scale, W * scale), no side
            below 1; the levels past the scale factors halve the one before.
        """
        outs = [
            level(_with_halves(inputs[-1]) if scale < 1 else inputs[-1])
            for scale, level in zip(self.scale_factors, self.levels, strict=True)
        ]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


def _with_halves(x: Tensor) -> Tensor:
    """Repeat the one row or column of a narrow image's map, which pooling would halve to none."""
    height, width = x.shape[-2:]
    if torch.jit.is_tracing() or min(height, width) > 1:
        return x
    return x.expand(-1, -1, max(2, height), max(2, width))


def _scaling(dim: int, scale: float) -> list[nn.Module]:
    """Layers that bring the backbone's map to ``scale``."""
    if scale == 4:
        return [
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            LayerNorm2d(dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
        ]
    if scale == 2:
        return [nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)]
    if scale == 1:
        return []
    if scale == 0.5:
        return [nn.MaxPool2d(2, stride=2)]
    raise InputError(f"scale_factors has {scale!r}; each must be one of 4, 2, 1, 0.5.")


def _projection(dim: int, out_channels: int, scale: float) -> list[nn.Module]:
    """The two convolutions with LN that every level ends in."""
    dim = int(dim / max(scale, 1))
    return [
        nn.Conv2d(dim, out_channels, 1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    ]
