"""Forward passes to the loss whose sizes the config fixes, for tensors without content.

Which boxes are sampled and which queries are matched depends on content. Those steps are replaced:
every image has the most RoIs and positives that its sampler gives, shared evenly among the levels
of the pyramid. All else is the model's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import BaseRoIHead
from mmengine.structures import InstanceData, PixelData
from mmseg.models.decode_heads import Mask2FormerHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torchvision.ops import roi_align

from mmbeit3.analysis.live_memory import LiveMemory
from mmbeit3.models import MaxIoUAssigner
from mmbeit3.utils import InputError

# In an image: a COCO image has 7 on average. Only targets, which are small, grow with them.
OBJECTS = 20
# Classes in a crop of ADE20K: about as many.
CLASSES = 10


def check_model(model: nn.Module) -> None:
    """Raise an InputError unless :func:`training_loss` can run the model."""
    two_stages = (
        isinstance(model, TwoStageDetector)
        and isinstance(getattr(model, "roi_head", None), BaseRoIHead)
        and isinstance(model.rpn_head, AnchorHead)
    )
    if not (two_stages or isinstance(model, EncoderDecoder)):
        raise InputError(
            f"the memory plan does not know how {type(model).__name__} trains; it knows two-stage "
            "detectors with an RPN (Faster, Mask and Cascade R-CNN) and mmseg's EncoderDecoder"
        )


def training_loss(model: nn.Module, images: Tensor, memory: LiveMemory) -> Tensor:
    """Loss of a batch.

    Args:
        model (nn.Module): A model that :func:`check_model` accepts, in training mode.
        images (Tensor): (B, 3, H, W), normalised.
        memory (LiveMemory): Told what belongs to which part.
    """
    features = model.extract_feat(images)
    if isinstance(model, TwoStageDetector):
        return _rpn_loss(model.rpn_head, features, images, memory) + _roi_loss(
            model.roi_head, features, memory
        )
    loss = _decoding_loss(model.decode_head, features, images, memory)
    if model.with_auxiliary_head:
        heads = model.auxiliary_head
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            loss = loss + _decoding_loss(head, features, images, memory)
    return loss


def _rpn_loss(
    head: AnchorHead, features: Sequence[Tensor], images: Tensor, memory: LiveMemory
) -> Tensor:
    scores, deltas = head(features)
    with memory.belongs("rpn_head"):
        sizes = [score.shape[-2:] for score in scores]
        anchors = torch.cat(head.prior_generator.grid_priors(sizes, device=images.device))
        with torch.no_grad():
            targets = [_anchor_targets(head, anchors) for _ in images]
        labels, label_weights, boxes, box_weights = map(torch.stack, zip(*targets, strict=True))
        score, delta = _by_anchor(scores, head.cls_out_channels), _by_anchor(deltas, 4)
        loss = F.binary_cross_entropy_with_logits(score[..., 0], labels, label_weights)
        return loss + ((delta - boxes).abs() * box_weights).sum()


def _by_anchor(maps: Sequence[Tensor], width: int) -> Tensor:
    """(B, anchors, width) of all levels, from maps (B, anchors * width, H, W)."""
    rows = [level.permute(0, 2, 3, 1).reshape(len(level), -1, width) for level in maps]
    return torch.cat(rows, 1)


def _anchor_targets(head: AnchorHead, anchors: Tensor) -> tuple[Tensor, ...]:
    """Targets of an image, from the overlaps of every anchor with every object."""
    objects = anchors.new_empty(OBJECTS, 4)
    if isinstance(head.assigner, MaxIoUAssigner):
        instances = InstanceData(bboxes=objects, labels=objects.new_zeros(OBJECTS).long())
        best = head.assigner.assign(InstanceData(priors=anchors), instances).max_overlaps
    else:  # mmdet's look at the values
        best, _ = head.assigner.iou_calculator(objects, anchors).max(0)
    return best, torch.zeros_like(best), torch.zeros_like(anchors), torch.zeros_like(anchors)


def _roi_loss(head: BaseRoIHead, features: Sequence[Tensor], memory: LiveMemory) -> Tensor:
    configs = _listed(head.train_cfg)
    batch = len(features[0])
    rois = batch * configs[0].sampler.num
    positives = int(rois * configs[0].sampler.pos_fraction)
    loss = features[0].new_zeros(())
    stages = zip(_listed(head.bbox_roi_extractor), _listed(head.bbox_head), strict=True)
    for extractor, box_head in stages:
        scores, deltas = box_head(_pool(extractor, features, rois, memory))
        with memory.belongs("roi_head.losses"):
            labels = torch.zeros(rois, dtype=torch.long)
            loss = loss + F.cross_entropy(scores, labels) + deltas[:positives].abs().sum()
    for extractor, mask_head in zip(*map(_listed, _mask_parts(head)), strict=True):
        logits = mask_head(_pool(extractor, features, positives, memory))
        with memory.belongs("roi_head.losses"):
            index, labels = torch.arange(positives), torch.zeros(positives, dtype=torch.long)
            masks = logits[index, labels]
            loss = loss + F.binary_cross_entropy_with_logits(masks, torch.zeros_like(masks))
    return loss


def _mask_parts(head: BaseRoIHead) -> tuple[Any, Any]:
    if not head.with_mask:
        return [], []
    heads = _listed(head.mask_head)
    shared = head.share_roi_extractor
    extractors = _listed(head.bbox_roi_extractor if shared else head.mask_roi_extractor)
    return extractors[: len(heads)], heads


def _pool(
    extractor: nn.Module, features: Sequence[Tensor], count: int, memory: LiveMemory
) -> Tensor:
    """Features of ``count`` RoIs, pooled in float32."""
    with memory.belongs("roi_head.roi_extractors"), torch.autocast("cpu", enabled=False):
        levels = [level.float() for level in features[: extractor.num_inputs]]
        size = extractor.roi_layers[0].output_size
        pooled = levels[0].new_zeros(count, extractor.out_channels, *size)
        for index, level in enumerate(levels):
            share = (count + index) // len(levels)
            places = torch.arange(share)
            pooled[places] = roi_align(level, level.new_empty(share, 5), size)
        return pooled.to(features[0].dtype)


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple, nn.ModuleList)) else [value]


def _decoding_loss(
    head: nn.Module, features: Sequence[Tensor], images: Tensor, memory: LiveMemory
) -> Tensor:
    height, width = images.shape[2:]
    labels = torch.zeros(1, height, width, dtype=torch.int64)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels.clone())) for _ in images]
    if isinstance(head, Mask2FormerHead):
        losses = _mask2former_loss(head, features, samples, memory)
    else:
        losses = head.loss(features, samples, {})
    return sum(value for name, value in losses.items() if "loss" in name)


def _mask2former_loss(
    head: Mask2FormerHead,
    features: Sequence[Tensor],
    samples: list[SegDataSample],
    memory: LiveMemory,
) -> dict[str, Tensor]:
    """The loss with CLASSES classes in every image, each matched with a query."""
    instances = [
        InstanceData(
            labels=torch.zeros(CLASSES, dtype=torch.long),
            masks=sample.gt_sem_seg.data.repeat(CLASSES, 1, 1),
        )
        for sample in samples
    ]
    memory.matches[(len(samples), head.num_queries)] = len(samples) * CLASSES
    head.assigner = SimpleNamespace(assign=_costs(head.assigner))
    head.sampler = SimpleNamespace(sample=_matched(head.num_queries))
    scores, masks = head(features, samples)
    metas = [sample.metainfo for sample in samples]
    with memory.belongs("decode_head.losses"):
        return head.loss_by_feat(scores, masks, instances, metas)


def _costs(assigner: Any) -> Callable[..., None]:
    """Matching as far as its memory goes: the costs of every pair."""

    def assign(pred_instances: InstanceData, gt_instances: InstanceData, **kwargs: Any) -> None:
        costs = [
            cost(pred_instances=pred_instances, gt_instances=gt_instances, **kwargs)
            for cost in getattr(assigner, "match_costs", ())
        ]
        sum(costs)

    return assign


def _matched(num_queries: int) -> Callable[..., SimpleNamespace]:
    """What a sampler says of CLASSES queries that are matched."""

    def sample(**kwargs: Any) -> SimpleNamespace:
        return SimpleNamespace(
            pos_inds=torch.arange(CLASSES),
            neg_inds=torch.arange(num_queries - CLASSES),
            pos_assigned_gt_inds=torch.arange(CLASSES),
            avg_factor=CLASSES,
        )

    return sample
