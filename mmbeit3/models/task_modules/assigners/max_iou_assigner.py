"""Assignment of anchors to objects with detectron2's rule for low-quality matches."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmbeit3.registry import TASK_UTILS

# Overlaps of so many pairs are in memory at once: 64 MB on an accelerator; on the CPU what its
# caches hold.
PAIRS, PAIRS_ON_CPU = 2**24, 2**20


@TASK_UTILS.register_module()
class MaxIoUAssigner(BaseAssigner):
    """mmdet's ``MaxIoUAssigner`` with low-quality matches as in detectron2's ``Matcher``.

    The anchor that overlaps an object most is positive, however poor it is. Its target is still the
    object that overlaps the anchor most: in mmdet the last of those objects takes the anchor over,
    even from an object that it fits better. Of objects that overlap an anchor equally, the first is
    its target; of anchors that overlap an object equally, all are positive.

    Args:
        pos_iou_thr (float): An anchor with at least this IoU is positive.
        neg_iou_thr (float): An anchor with less IoU than this is negative, unless it is the best of
            an object; between the two it is ignored.
        min_pos_iou (float): The best anchor of an object is positive from this IoU on. Above 0, or
            an object that no anchor touches makes every anchor positive. Defaults to 1e-9.
        ignore_iof_thr (float): Anchors that lie in an ignored region by more than this part of
            their area are ignored; a value of 0 or less ignores none. Defaults to -1.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float,
        min_pos_iou: float = 1e-9,
        ignore_iof_thr: float = -1.0,
    ) -> None:
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.min_pos_iou = min_pos_iou
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Label anchors and find their objects.

        Args:
            pred_instances (InstanceData): With the anchors ``priors`` (N, 4).
            gt_instances (InstanceData): With ``bboxes`` (K, 4) and ``labels`` (K,).
            gt_instances_ignore (InstanceData, optional): With ``bboxes`` of regions to ignore.
                Defaults to None.
            **kwargs (Any): Not used.

        Returns:
            AssignResult: ``gt_inds`` (N,): one plus the index of the object, 0 for negative, -1 for
            ignored; ``labels`` (N,): that of the object, or -1; ``max_overlaps`` (N,): the largest
            IoU, -1 in an ignored region. Without objects all anchors are negative.
        """
        anchors = get_box_tensor(pred_instances.priors).float()
        objects = get_box_tensor(gt_instances.bboxes).float()
        if not len(objects) or not len(anchors):
            return AssignResult(
                num_gts=len(objects),
                gt_inds=anchors.new_zeros(len(anchors), dtype=torch.long),
                max_overlaps=anchors.new_zeros(len(anchors)),
                labels=anchors.new_full((len(anchors),), -1, dtype=torch.long),
            )
        ignored = self._ignored(anchors, gt_instances_ignore)
        overlaps, objects_of, is_best = self._match(anchors, objects, ignored)
        positive = is_best | (overlaps >= self.pos_iou_thr)
        negative = (overlaps >= 0) & (overlaps < self.neg_iou_thr) & ~positive
        gt_inds = torch.where(positive, objects_of + 1, -1).masked_fill(negative, 0)
        labels = torch.where(positive, gt_instances.labels[objects_of], -1)
        return AssignResult(len(objects), gt_inds, max_overlaps=overlaps, labels=labels)

    def _ignored(self, anchors: Tensor, ignore: InstanceData | None) -> Tensor | None:
        """Which anchors (N,) lie in an ignored region, or None."""
        if self.ignore_iof_thr <= 0 or ignore is None or not len(ignore.bboxes):
            return None
        regions = get_box_tensor(ignore.bboxes).float()
        inside = [
            bbox_overlaps(anchors, region[None], mode="iof")[:, 0] > self.ignore_iof_thr
            for region in regions
        ]
        return torch.stack(inside).any(0)

    def _match(
        self, anchors: Tensor, objects: Tensor, ignored: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match anchors and objects both ways, some objects at a time.

        Returns:
            tuple[Tensor, Tensor, Tensor]: of each anchor the largest IoU, the object that it has it
            with, and whether it is the best of an object (N,).
        """
        largest = anchors.new_full((len(anchors),), -1.0)
        objects_of = torch.zeros_like(largest, dtype=torch.long)
        is_best = torch.zeros_like(largest, dtype=torch.bool)
        columns, areas = anchors.t().contiguous(), _areas(anchors)
        pairs = PAIRS_ON_CPU if anchors.device.type == "cpu" else PAIRS
        step = max(pairs // len(anchors), 1)
        for first in range(0, len(objects), step):
            overlaps = _ious(objects[first : first + step], columns, areas)
            if ignored is not None:
                overlaps.masked_fill_(ignored, -1.0)
            # An object of which even the best anchor is too poor equals none.
            best = overlaps.amax(1, keepdim=True)
            best = best.masked_fill(best < self.min_pos_iou, torch.inf)
            is_best |= (overlaps == best).any(0)
            overlaps, index = overlaps.max(0)
            closer = overlaps > largest
            largest = torch.where(closer, overlaps, largest)
            objects_of = torch.where(closer, index + first, objects_of)
        return largest, objects_of, is_best


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _ious(objects: Tensor, columns: Tensor, areas: Tensor) -> Tensor:
    """IoU (K, N) of objects (K, 4) with anchors given as columns (4, N) and areas (N,)."""
    x1, y1, x2, y2 = objects[..., None].unbind(1)  # (K, 1) each
    width = torch.minimum(x2, columns[2]).sub_(torch.maximum(x1, columns[0])).clamp_(min=0)
    height = torch.minimum(y2, columns[3]).sub_(torch.maximum(y1, columns[1])).clamp_(min=0)
    inside = width.mul_(height)
    union = torch.add(_areas(objects)[:, None], areas).sub_(inside).clamp_(min=1e-6)
    return inside.div_(union)
