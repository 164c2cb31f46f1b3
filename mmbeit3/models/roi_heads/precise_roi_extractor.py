"""RoI features whose boxes keep their precision under mixed precision."""

from __future__ import annotations

import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mmbeit3.ops import multi_level_roi_align
from mmbeit3.registry import MODELS


@MODELS.register_module()
class PreciseRoIExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` that keeps box coordinates in float32 under mixed precision.

    mmdet casts RoIs to the dtype of the features: in bfloat16 a coordinate past 1024 px then moves
    in steps of 8 px. RoIAlign runs in float32 here; its output has the dtype of the features. On
    the CPU without gradient it is :func:`mmbeit3.ops.multi_level_roi_align`, which is faster.
    """

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Features (num_rois, C, size, size) of ``rois`` (num_rois, 5) from the levels."""
        dtype = feats[0].dtype
        with torch.autocast(feats[0].device.type, enabled=False):
            feats = tuple(feat.float() for feat in feats)
            pool = self._align if self._aligns(feats) else super().forward
            return pool(feats, rois.float(), roi_scale_factor).to(dtype)

    def _aligns(self, feats: tuple[Tensor, ...]) -> bool:
        """Whether ``_align`` does what the layers of the config do."""
        layer = self.roi_layers[0]
        needs_grad = torch.is_grad_enabled() and any(feat.requires_grad for feat in feats)
        return (
            feats[0].device.type == "cpu"
            and not (needs_grad or torch.jit.is_tracing())
            and isinstance(layer, RoIAlign)
            and layer.pool_mode == "avg"
        )

    def _align(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None
    ) -> Tensor:
        layer, levels = self.roi_layers[0], torch.zeros(len(rois), dtype=torch.long)
        if len(feats) > 1:  # mmdet rescales none where there is one level
            levels = self.map_roi_levels(rois, len(feats))
            if roi_scale_factor is not None:
                rois = self.roi_rescale(rois, roi_scale_factor)
        scales = [layer.spatial_scale for layer in self.roi_layers[: len(feats)]]
        return multi_level_roi_align(
            feats, rois, levels, layer.output_size, scales, layer.sampling_ratio, layer.aligned
        )
