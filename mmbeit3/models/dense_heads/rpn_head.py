"""Region proposal network that ranks by logit and decodes in float32 under mixed precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RPNHead as MMDetRPNHead
from mmdet.utils import ConfigType, InstanceList, OptInstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmbeit3.registry import MODELS


@MODELS.register_module()
class RPNHead(MMDetRPNHead):
    """mmdet's ``RPNHead`` with the proposals of detectron2; arguments as in mmdet.

    - Logits and deltas are cast to float32 before proposals are ranked, decoded and suppressed and
      before losses are computed, whatever precision the layers run in. mmdet makes even the anchors
      in the precision of the layers: in bfloat16 a coordinate past 512 px moves in steps of 4 px.
    - Proposals are ranked by logit. The sigmoid of mmdet rounds large logits to the same score.

    The ``scores`` of the proposals are logits, in the order of the proposals. An NMS that computes
    with probabilities (Soft-NMS, or one with a ``score_threshold``) is given those.
    """

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, list[Tensor]]:
        """Losses ``loss_rpn_cls`` and ``loss_rpn_bbox`` of each level; arguments as in mmdet."""
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            return super().loss_by_feat(
                _in_float32(cls_scores),
                _in_float32(bbox_preds),
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: ConfigType | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Proposals of each image, best first; arguments as in mmdet.

        Args:
            cls_scores (list[Tensor]): Logits (B, anchors * 1, H_l, W_l) of each level.
            bbox_preds (list[Tensor]): Deltas (B, anchors * 4, H_l, W_l) of each level.
            score_factors (list[Tensor], optional): Not used.
            batch_img_metas (list[dict], optional): ``img_shape`` of each image.
            cfg (ConfigDict, optional): ``nms_pre``, ``nms``, ``max_per_img`` and
                ``min_bbox_size``. Defaults to None: ``test_cfg``.
            rescale (bool): Return boxes in pixels of the original image. Defaults to False.
            with_nms (bool): Must be True.

        Returns:
            list[InstanceData]: ``bboxes`` (N, 4) and ``scores`` (N,), in float32, and ``labels``
            (N,), all 0.
        """
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            return super().predict_by_feat(
                _in_float32(cls_scores),
                _in_float32(bbox_preds),
                score_factors,
                batch_img_metas,
                cfg,
                rescale,
                with_nms,
            )

    def _predict_by_feat_single(
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        score_factor_list: list,
        mlvl_priors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType | None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Proposals of one image; arguments as in mmdet."""
        cfg = self.test_cfg if cfg is None else cfg
        logits, deltas, anchors, level_ids = [], [], [], []
        levels = zip(cls_score_list, bbox_pred_list, mlvl_priors, strict=True)
        for level, (scores, own_deltas, own_anchors) in enumerate(levels):
            # (anchors * C, H, W) -> (H * W * anchors, C)
            own_logits = self._logits(scores.permute(1, 2, 0).reshape(-1, self.cls_out_channels))
            own_deltas = own_deltas.permute(1, 2, 0).reshape(-1, self.bbox_coder.encode_size)
            if 0 < cfg.get("nms_pre", -1) < len(own_logits):
                own_logits, index = own_logits.topk(cfg.nms_pre)
                own_deltas, own_anchors = own_deltas[index], own_anchors[index]
            logits.append(own_logits)
            deltas.append(own_deltas)
            anchors.append(own_anchors)
            level_ids.append(torch.full_like(own_logits, level, dtype=torch.long))
        scores = torch.cat(logits)
        results = InstanceData(
            bboxes=self.bbox_coder.decode(
                torch.cat(anchors), torch.cat(deltas), max_shape=img_meta["img_shape"]
            ),
            scores=scores.sigmoid() if _needs_probabilities(cfg.nms) else scores,
            level_ids=torch.cat(level_ids),
        )
        return self._bbox_post_process(results, cfg, rescale, with_nms, img_meta)

    def _logits(self, scores: Tensor) -> Tensor:
        """Logits (N,) of the objects, from the layer's output (N, 1), or (N, 2) for a softmax."""
        return scores[:, 0] if self.use_sigmoid_cls else scores[:, 0] - scores[:, 1]


def _in_float32(levels: Sequence[Tensor]) -> list[Tensor]:
    return [level.float() for level in levels]


def _needs_probabilities(nms: ConfigType) -> bool:
    return nms["type"] != "nms" or nms.get("score_threshold", 0) > 0
