"""Mask2Former's head for semantic segmentation, at any image size and in half precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from mmseg.models.decode_heads import Mask2FormerHead as MMSegMask2FormerHead
from mmseg.structures import SegDataSample
from torch import Tensor

from mmbeit3.models.segmentors.bands import rows_per_band
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


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
        self.map_strides = tuple(kwargs.get("strides", (4, 8, 16, 32)))
        self.mask_stride = self.map_strides[0]
        if self.mask_stride != int(self.mask_stride):
            raise InputError(
                f"decode_head.strides starts with {self.mask_stride:g}, but masks are enlarged by "
                "a whole number: choose a patch size and scale_factors that give one"
            )

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
        scores, masks = self._decode(x, samples)
        classes, masks = scores.float().softmax(-1)[..., :-1], masks.float()
        size = batch_img_metas[0].get("pad_shape", batch_img_metas[0]["img_shape"])[:2]
        with torch.autocast(masks.device.type, enabled=False):
            return self._score_pixels(classes, masks, size)

    def _decode(self, x: tuple[Tensor, ...], samples: list[SegDataSample]) -> tuple[Tensor, Tensor]:
        """The last layer's class scores (B, num_queries, C + 1), masks (B, num_queries, h, w)."""
        all_cls_scores, all_mask_preds = self(x, samples)
        return all_cls_scores[-1], all_mask_preds[-1]

    def _score_pixels(self, classes: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Sum up the queries, a band of rows after the other: masks are large at full size.

        Args:
            classes (Tensor): Probabilities (B, num_queries, num_classes).
            masks (Tensor): Logits (B, num_queries, h, w).
            size (tuple[int, int]): Height and width of the images.

        Returns:
            Tensor: (B, num_classes, H, W), with the classes last in memory.
        """
        stride = self.mask_stride
        height, width = (
            min(given, side * stride) for given, side in zip(size, masks.shape[2:], strict=True)
        )
        scores = masks.new_empty(len(masks), height, width, classes.shape[-1])
        row_bytes = masks[:, :, 0].numel() * masks.element_size() * stride**2
        step = rows_per_band(row_bytes, masks.device)
        for first in range(0, -(-height // stride), step):
            rows = slice(first * stride, min((first + step) * stride, height))
            band = self._enlarge(masks, first, first + step)
            # Like this the result has no gaps in memory, and a matrix can be made of it.
            band = band[:, :, : rows.stop - rows.start, :width].sigmoid()
            pixels = self._weigh(band.permute(0, 2, 3, 1).flatten(1, 2), classes)
            scores[:, rows] = pixels.unflatten(1, (-1, width))
        return scores.permute(0, 3, 1, 2)

    def _weigh(self, masks: Tensor, classes: Tensor) -> Tensor:
        """Product of (B, pixels, num_queries) and (B, num_queries, num_classes)."""
        return masks @ classes

    def _enlarge(self, masks: Tensor, first: int, end: int) -> Tensor:
        """Enlarge the rows from ``first`` to ``end`` of ``masks``, as if all of them were."""
        above, below = max(first - 1, 0), end + 1  # bilinear: one row more on either side
        band = masks[:, :, above:below]
        # With the queries last in memory, it takes a quarter of the time. A view that has them so
        # would not do: torch then enlarges into the other layout, by way of a copy.
        band = band.clone(memory_format=torch.channels_last)
        band = F.interpolate(
            band, scale_factor=self.mask_stride, mode="bilinear", align_corners=False
        )
        return band[:, :, (first - above) * self.mask_stride : (end - above) * self.mask_stride]
