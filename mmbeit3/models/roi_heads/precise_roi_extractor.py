"""RoI features whose boxes keep their precision under mixed precision."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class PreciseRoIExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` that keeps box coordinates in float32 under mixed precision.

    mmdet casts RoIs to the dtype of the features: in bfloat16 a coordinate past 1024 px then moves
    in steps of 8 px. RoIAlign runs in float32 here; its output has the dtype of the features.
    """

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Features (num_rois, C, size, size) of ``rois`` (num_rois, 5) from the levels."""
        dtype = feats[0].dtype
        with torch.autocast(feats[0].device.type, enabled=False):
            feats = tuple(feat.float() for feat in feats)
            return self.pool(feats, rois.float(), roi_scale_factor).to(dtype)

    def pool(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None
    ) -> Tensor:
        """As :meth:`forward`, with all in float32."""
        return super().forward(feats, rois, roi_scale_factor)
