"""The cascade of ViTDet, where it differs from mmdet's ``CascadeRoIHead``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances, unpack_gt_instances
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmbeit3.ops import soft_nms
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError


@MODELS.register_module()
class ViTDetCascadeRoIHead(CascadeRoIHead):
    """Cascade R-CNN head as detectron2's ViTDet defines it (its ``CascadeROIHeads``).

    What differs from mmdet's ``CascadeRoIHead``:

    - One mask head: trained on the proposals sampled for the first stage, run on the final boxes.
    - The gradient that each stage sends back into the pyramid is divided by the number of stages
      (Cascade R-CNN, arXiv 1712.00726, does so to balance them); the losses weigh
      ``stage_loss_weights``, all 1 in the recipe.
    - A later stage takes every box of the stage before it, ground-truth boxes included. The
      samplers of those stages are ``PseudoSampler`` in the recipe: new labels, no new sampling.
    - At test the class probabilities of the stages are averaged, not their logits.
    - Scores and deltas leave the layers in float32, whatever precision those run in: boxes, targets
      and losses are computed in it, and the boxes that a stage hands on.
    - ``nms=dict(type="soft_nms", ...)`` runs class by class and stops after ``max_per_img`` boxes.

    Boxes must be class-agnostic (``reg_class_agnostic=True``). Arguments are those of
    ``CascadeRoIHead``, with one ``mask_roi_extractor`` and one ``mask_head``, or none of both.
    """

    current_stage: int

    def init_mask_head(self, mask_roi_extractor: ConfigType, mask_head: ConfigType) -> None:
        """Build the one mask head."""
        self.mask_roi_extractor = MMDET_MODELS.build(mask_roi_extractor)
        self.mask_head = MMDET_MODELS.build(mask_head)
        self.share_roi_extractor = False

    # ---------------------------------------------------------------- training

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Losses of all stages and of the mask head.

        Args:
            x (tuple[Tensor, ...]): Pyramid levels (B, C, H_l, W_l).
            rpn_results_list (list[InstanceData]): Proposals of each image.
            batch_data_samples (list[DetDataSample]): Ground truth of each image.

        Returns:
            dict[str, Tensor]: ``s{stage}.loss_cls``, ``s{stage}.loss_bbox``, ``s{stage}.acc`` and
            ``loss_mask``.
        """
        gt_instances, gt_ignore, img_metas = unpack_gt_instances(batch_data_samples)
        proposals = [results.bboxes for results in rpn_results_list]
        losses = {}
        for stage in range(self.num_stages):
            self.current_stage = stage
            samples = [
                self._sample(stage, boxes, gts, ignore)
                for boxes, gts, ignore in zip(proposals, gt_instances, gt_ignore, strict=True)
            ]
            results = self.bbox_loss(stage, x, samples)
            for name, value in results["loss_bbox"].items():
                weight = self.stage_loss_weights[stage] if "loss" in name else 1
                losses[f"s{stage}.{name}"] = value * weight
            if stage == 0 and self.with_mask:
                losses.update(self._mask_loss(x, samples, gt_instances))
            if stage < self.num_stages - 1:
                proposals = self._refined(stage, results, samples, img_metas)
        return losses

    def _sample(
        self, stage: int, boxes: Tensor, gts: InstanceData, ignore: InstanceData | None
    ) -> SamplingResult:
        priors = InstanceData(priors=boxes)
        assigned = self.bbox_assigner[stage].assign(priors, gts, ignore)
        return self.bbox_sampler[stage].sample(assigned, priors, gts)

    @torch.no_grad()
    def _refined(
        self, stage: int, results: dict, samples: list[SamplingResult], img_metas: list[dict]
    ) -> list[Tensor]:
        """Boxes of this stage, clipped to the image; those that vanish there are left out."""
        sizes = [len(sample.priors) for sample in samples]
        boxes = [
            self.bbox_head[stage].bbox_coder.decode(rois[:, 1:], deltas, meta["img_shape"])
            for rois, deltas, meta in zip(
                results["rois"].split(sizes),
                results["bbox_pred"].split(sizes),
                img_metas,
                strict=True,
            )
        ]
        return [box[(box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])] for box in boxes]

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        extractor = self.bbox_roi_extractor[stage]
        feats = extractor(x[: extractor.num_inputs], rois)
        if feats.requires_grad:
            feats.register_hook(lambda grad: grad / self.num_stages)
        cls_score, bbox_pred = self.bbox_head[stage](feats)
        return dict(cls_score=cls_score.float(), bbox_pred=bbox_pred.float(), bbox_feats=feats)

    def _mask_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """Mask logits (num_rois, num_classes, 28, 28)."""
        extractor = self.mask_roi_extractor
        return self.mask_head(extractor(x[: extractor.num_inputs], rois))

    def _mask_loss(
        self, x: tuple[Tensor, ...], samples: list[SamplingResult], gt_instances: InstanceList
    ) -> dict[str, Tensor]:
        if not all("masks" in gts for gts in gt_instances):
            raise InputError(
                "the model has a mask head, but the training data come without masks: set "
                "with_mask=True in LoadAnnotations; or train boxes alone, with "
                "model.roi_head.mask_head=None and model.roi_head.mask_roi_extractor=None"
            )
        rois = bbox2roi([sample.pos_priors for sample in samples])
        results = self.mask_head.loss_and_target(
            mask_preds=self._mask_forward(x, rois),
            sampling_results=samples,
            batch_gt_instances=gt_instances,
            rcnn_train_cfg=self.train_cfg[0],
        )
        return results["loss_mask"]

    # ---------------------------------------------------------------- inference

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceList:
        """Boxes of each image.

        Args:
            x (tuple[Tensor, ...]): Pyramid levels (B, C, H_l, W_l).
            batch_img_metas (list[dict]): Meta of each image.
            rpn_results_list (list[InstanceData]): Proposals of each image.
            rcnn_test_cfg (ConfigDict): ``score_thr``, ``nms``, ``max_per_img``; None returns every
                box with the scores of all classes.
            rescale (bool): Return boxes in pixels of the original image. Defaults to False.

        Returns:
            list[InstanceData]: ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,) by image.
        """
        proposals = [results.bboxes for results in rpn_results_list]
        boxes, probabilities = self._cascade(x, proposals, batch_img_metas)
        if rescale:
            boxes = [
                scale_boxes(box, [1 / factor for factor in meta["scale_factor"]])
                for box, meta in zip(boxes, batch_img_metas, strict=True)
            ]
        return [
            select_boxes(box, scores, rcnn_test_cfg)
            for box, scores in zip(boxes, probabilities, strict=True)
        ]

    def _cascade(
        self, x: tuple[Tensor, ...], boxes: Sequence[Tensor], img_metas: list[dict]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes of the last stage and class probabilities averaged over the stages."""
        sizes = [len(box) for box in boxes]
        probabilities = []
        for stage in range(self.num_stages):
            results = self._bbox_forward(stage, x, bbox2roi(boxes))
            probabilities.append(results["cls_score"].softmax(-1))
            coder = self.bbox_head[stage].bbox_coder
            boxes = [
                coder.decode(box, deltas, meta["img_shape"])
                for box, deltas, meta in zip(
                    boxes, results["bbox_pred"].split(sizes), img_metas, strict=True
                )
            ]
        mean = torch.stack(probabilities).mean(0)
        return list(boxes), list(mean.split(sizes))

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """Add the masks to the boxes of each image.

        Args:
            x (tuple[Tensor, ...]): Pyramid levels (B, C, H_l, W_l).
            batch_img_metas (list[dict]): Meta of each image.
            results_list (list[InstanceData]): Boxes of each image, in pixels of the network's
                input; with ``rescale`` they are scaled to the original image.
            rescale (bool): Return boxes and masks in pixels of the original image. Defaults to
                False.

        Returns:
            list[InstanceData]: With ``masks`` (N, H, W), bool; with a negative ``mask_thr_binary``
            probabilities from 0 to 255 in uint8.
        """
        sizes = [len(results) for results in results_list]
        rois = bbox2roi([results.bboxes for results in results_list])
        if not len(rois):
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type="mask",
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
        return self.mask_head.predict_by_feat(
            mask_preds=self._mask_forward(x, rois).float().split(sizes),
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
        )

    def mask_probabilities(
        self, x: tuple[Tensor, ...], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Tensor]:
        """Masks of boxes at the size of the mask head.

        Args:
            x (tuple[Tensor, ...]): Pyramid levels (B, C, H_l, W_l).
            boxes (Sequence[Tensor]): (N, 4) of each image, in pixels of the network's input; at
                least one of all images.
            labels (Sequence[Tensor]): Their classes, (N,) of each image.

        Returns:
            list[Tensor]: (N, 28, 28) of each image, in float32.
        """
        logits = self._mask_forward(x, bbox2roi(boxes)).float()
        classes = 0 if self.mask_head.class_agnostic else torch.cat(list(labels))
        index = torch.arange(len(logits), device=logits.device)
        return list(logits[index, classes].sigmoid().split([len(box) for box in boxes]))

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> tuple:
        """Raw outputs without post-processing, as ``mode="tensor"`` and FLOP counters want them."""
        img_metas = [sample.metainfo for sample in batch_data_samples]
        boxes, probabilities = self._cascade(
            x, [results.bboxes for results in rpn_results_list], img_metas
        )
        if not self.with_mask:
            return boxes, probabilities
        return boxes, probabilities, self._mask_forward(x, bbox2roi(boxes))


def select_boxes(boxes: Tensor, probabilities: Tensor, cfg: ConfigType | None) -> InstanceData:
    """Threshold and NMS of class-agnostic boxes (N, 4) with probabilities (N, classes + 1).

    Args:
        boxes (Tensor): (N, 4) as (x1, y1, x2, y2).
        probabilities (Tensor): (N, classes + 1); the last is that of no object.
        cfg (ConfigDict, optional): ``score_thr``, ``nms`` and ``max_per_img``; None selects none.

    Returns:
        InstanceData: ``bboxes`` (K, 4), ``scores`` (K,), ``labels`` (K,), best first; without
        ``cfg`` all ``bboxes`` and ``scores`` as given.
    """
    if cfg is None:
        return InstanceData(bboxes=boxes, scores=probabilities)
    nms = dict(cfg.nms)
    if nms["type"] != "soft_nms":
        dets, labels = multiclass_nms(boxes, probabilities, cfg.score_thr, cfg.nms, cfg.max_per_img)
    else:
        nms.pop("type")
        index, labels = (probabilities[:, :-1] > cfg.score_thr).nonzero(as_tuple=True)
        dets, labels, _ = soft_nms(
            boxes[index],
            probabilities[index, labels],
            labels,
            max_per_img=cfg.max_per_img,
            **nms,
        )
    return InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=labels)
