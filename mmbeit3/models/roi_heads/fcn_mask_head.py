"""Mask head of ViTDet: mmdet's layers, detectron2's start values."""

from __future__ import annotations

from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MMDetFCNMaskHead
from torch import nn

from mmbeit3.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(MMDetFCNMaskHead):
    """mmdet's ``FCNMaskHead`` whose predictor starts as in detectron2; arguments as in mmdet.

    detectron2's ``MaskRCNNConvUpsampleHead`` draws it with a standard deviation of 0.001, so that
    every mask starts at a probability of a half; in mmdet it is 0.159 for 80 classes.
    """

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)
