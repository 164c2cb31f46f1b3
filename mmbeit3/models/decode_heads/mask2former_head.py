"""Mask2Former's head for semantic segmentation, at any image size and in half precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from mmseg.models.decode_heads import Mask2FormerHead as MMSegMask2FormerHead
from mmseg.structures import SegDataSample
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class Mask2FormerHead(MMSegMask2FormerHead):
    """mmseg's ``Mask2FormerHead`` (arXiv 2112.01527), with three repairs; arguments as there.

    Of the ``strides`` of the feature maps, 4, 8, 16 and 32 unless given, the first is used.

    - Masks are enlarged by exactly the stride of the first feature map and cut to the image. mmseg
      stretches them to the size that it finds in the image's meta, which is wrong for windows of a
      sliding-window test over padded images (open-mmlab/mmsegmentation#3666) and shifts masks where
      the backbone padded the image to whole patches.
    - Matching and losses run in float32 under mixed precision.
    - Scores are probabilities, and :class:`mmbeit3.models.tta.SegTTAModel` is told so.

    Use it in :class:`mmbeit3.models.segmentors.EncoderDecoder`, which tells it the size of what it
    is given.
    """

    predicts_probabilities = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mask_stride = kwargs.get("strides", (4, 8, 16, 32))[0]

    def loss_by_feat(
        self,
        all_cls_scores: list[Tensor],
        all_mask_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> dict[str, Tensor]:
        """Losses of every decoder layer, in float32; arguments as in mmdet."""
        with torch.autocast(all_mask_preds[0].device.type, enabled=False):
            return super().loss_by_feat(
                [scores.float() for scores in all_cls_scores],
                [masks.float() for masks in all_mask_preds],
                batch_gt_instances,
                batch_img_metas,
            )

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: Any) -> Tensor:
        """Score every pixel.

        Args:
            x (tuple[Tensor, ...]): Feature maps, the finest first.
            batch_img_metas (list[dict]): Of the first, ``pad_shape`` or else ``img_shape`` is the
                size (H, W) of the images that ``x`` comes from.
            test_cfg (Any): Not used.

        Returns:
            Tensor: (B, num_classes, H, W), the sum over the queries of the class's probability
            times the mask's, in float32.
        """
        samples = [SegDataSample(metainfo=meta) for meta in batch_img_metas]
        all_cls_scores, all_mask_preds = self(x, samples)
        scores = all_cls_scores[-1].float().softmax(-1)[..., :-1]
        masks = all_mask_preds[-1].float()
        masks = F.interpolate(
            masks, scale_factor=self.mask_stride, mode="bilinear", align_corners=False
        )
        height, width = batch_img_metas[0].get("pad_shape", batch_img_metas[0]["img_shape"])[:2]
        masks = masks[..., :height, :width].sigmoid()
        return torch.einsum("bqc, bqhw -> bchw", scores, masks)
