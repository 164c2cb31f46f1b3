"""Graphs of a model: what is exported, and PyTorch's answer to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from mmbeit3.models.dense_heads import RPNHead
from mmbeit3.models.detectors import CascadeRCNN
from mmbeit3.models.roi_heads import PreciseRoIExtractor, ViTDetCascadeRoIHead
from mmbeit3.utils import InputError

Tensors = tuple[Tensor, ...]


@dataclass
class Graph:
    """What becomes one file.

    Attributes:
        name (str): What is added to the name of the file; "" for the first one.
        module (nn.Module): Tensors to a tuple of tensors.
        inputs (dict[str, dict[int, str]]): Names of the inputs, and of their axes of any length.
        outputs (dict[str, dict[int, str]]): The same of the outputs.
        example (Callable): From an image (1, 3, H, W) to inputs, by the plain model.
        reference (Callable): From inputs to the outputs of the plain model.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, str]]
    outputs: dict[str, dict[int, str]]
    reference: Callable[..., Tensors]
    example: Callable[[Tensor], Tensors] = field(default=lambda image: (image,))


IMAGE = {"image": {2: "height", 3: "width"}}


class _Call(nn.Module):
    """A function of a model as a module."""

    def __init__(self, model: nn.Module, function: Callable[..., Tensors]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *inputs: Tensor) -> Tensors:
        return self.function(*inputs)


def backbone_graphs(model: nn.Module) -> list[Graph]:
    """The tower with the pyramid, if there is one: image to the maps that the heads are given."""

    def maps(image: Tensor) -> Tensors:
        return tuple(model.extract_feat(image))

    count = len(maps(torch.zeros(1, 3, 64, 64)))
    return [Graph("", _Call(model, maps), IMAGE, _levels(count), maps)]


def segmentor_graphs(model: nn.Module) -> list[Graph]:
    """Image to scores (1, classes, height, width), of the image or of one window of it."""

    def scores(image: Tensor) -> Tensors:
        return (model.encode_decode(image, [{}]),)

    axes = {"scores": IMAGE["image"]}
    return [Graph("", _Call(model, scores), IMAGE, axes, scores)]


def dual_encoder_graphs(model: nn.Module) -> list[Graph]:
    """Image to feature (1, D); and ids (1, N) of a text without padding to feature (1, D)."""

    def image_feature(image: Tensor) -> Tensors:
        return (model.encode_image(image),)

    def text_feature(ids: Tensor) -> Tensors:
        return (model.encode_text(ids),)

    def ids(image: Tensor) -> Tensors:
        text = model.encoder.text
        length = min(2 + image.shape[3] % 29, text.max_tokens)
        return (torch.arange(length)[None] * 7 % text.vocab_size,)

    feature: dict[str, dict[int, str]] = {"feature": {}}
    return [
        Graph("", _Call(model, image_feature), IMAGE, feature, image_feature),
        Graph("texts", _Call(model, text_feature), {"ids": {1: "ids"}}, feature, text_feature, ids),
    ]


def check_detector(model: Any) -> None:
    """Make sure that :func:`detector_graphs` knows the parts of a detector.

    Raises:
        InputError: It does not.
    """
    roi_head: Any = getattr(model, "roi_head", None)
    rpn: Any = getattr(model, "rpn_head", None)
    parts = {
        "model": (model, CascadeRCNN),
        "model.rpn_head": (rpn, RPNHead),
        "model.roi_head": (roi_head, ViTDetCascadeRoIHead),
    }
    if isinstance(roi_head, ViTDetCascadeRoIHead):
        for extractor in _extractors(roi_head):
            parts["the RoI extractor"] = (extractor, PreciseRoIExtractor)
    for key, (found, expected) in parts.items():
        if not isinstance(found, expected):
            raise InputError(
                f"{key} is {type(found).__name__}, of which no graph is made; expected a "
                f"mmbeit3.{expected.__name__}. --part backbone exports tower and pyramid"
            )
    kind = rpn.test_cfg["nms"]["type"]
    if kind != "nms":
        raise InputError(
            f"model.test_cfg.rpn.nms has the type {kind!r}, for which there is no operator; "
            "expected 'nms'"
        )


def detector_graphs(model: CascadeRCNN) -> list[Graph]:
    """Image to boxes with the scores of all classes; and from these boxes to their masks.

    What lies between, score threshold and (Soft-)NMS, is no part of a graph.
    """
    roi_head = model.roi_head
    count = roi_head.bbox_roi_extractor[0].num_inputs
    if roi_head.with_mask:
        count = max(count, roi_head.mask_roi_extractor.num_inputs)

    def detected(image: Tensor) -> Tensors:
        levels = model.extract_feat(_padded(model, image))
        sample = DetDataSample(metainfo=dict(img_shape=tuple(image.shape[-2:])))
        [proposals] = model.rpn_head.predict(levels, [sample])
        boxes, scores = roi_head._cascade(levels, [proposals.bboxes], [sample.metainfo])
        return boxes[0], scores[0], *levels[:count]

    found = {"boxes": {0: "boxes"}, "scores": {0: "boxes"}}
    graphs = [Graph("", DetectorGraph(model, count), IMAGE, found | _levels(count), detected)]
    if roi_head.with_mask:

        def masks(*inputs: Tensor) -> Tensors:
            return (roi_head._mask_forward(inputs[:-1], inputs[-1]),)

        def regions(image: Tensor) -> Tensors:
            boxes, _, *levels = detected(image)
            return *levels, bbox2roi([boxes[:20]])

        axes = _levels(count) | {"regions": {0: "regions"}}
        graphs.append(
            Graph(
                "masks",
                MaskGraph(roi_head),
                axes,
                {"masks": {0: "regions"}},
                masks,
                regions,
            )
        )
    return graphs


class DetectorGraph(nn.Module):
    """The first graph of a detector, in operators that a graph of every size can have.

    Args:
        model (CascadeRCNN): The detector.
        count (int): How many levels of the pyramid are handed out.
    """

    def __init__(self, model: CascadeRCNN, count: int) -> None:
        super().__init__()
        self.model, self.count = model, count

    def forward(self, image: Tensor) -> Tensors:
        """(1, 3, H, W) -> boxes (N, 4), scores (N, classes + 1), levels of the pyramid."""
        model = self.model
        size = torch.stack([torch.as_tensor(n) for n in (image.shape[3], image.shape[2])]).float()
        levels = model.extract_feat(_padded(model, image))
        boxes = self._proposals(levels, size)
        probabilities = []
        for extractor, head in zip(
            model.roi_head.bbox_roi_extractor, model.roi_head.bbox_head, strict=True
        ):
            logits, deltas = head(_pooled(extractor, levels, _regions(boxes)))
            probabilities.append(logits.softmax(-1))
            boxes = _inside(head.bbox_coder.decode(boxes, deltas), size)
        return boxes, torch.stack(probabilities).mean(0), *levels[: self.count]

    def _proposals(self, levels: Sequence[Tensor], size: Tensor) -> Tensor:
        """Boxes (N, 4), best first, as :class:`mmbeit3.models.RPNHead` chooses them."""
        rpn = self.model.rpn_head
        cfg = rpn.test_cfg
        found = []
        for level, (logits, deltas) in enumerate(zip(*rpn(levels), strict=True)):
            size_here = logits.shape[-2:]
            anchors = rpn.prior_generator.single_level_grid_priors(size_here, level, device="cpu")
            logits = logits.permute(0, 2, 3, 1).reshape(-1, rpn.cls_out_channels)
            logits = rpn._logits(logits)
            deltas = deltas.permute(0, 2, 3, 1).reshape(-1, 4)
            if cfg.get("nms_pre", -1) > 0:
                most = torch.as_tensor(logits.shape[0]).clamp(max=cfg.nms_pre)
                logits, index = logits.topk(most)
                anchors, deltas = anchors[index], deltas[index]
            boxes = _inside(rpn.bbox_coder.decode(anchors, deltas), size)
            found.append((boxes, logits, torch.full_like(logits, level)))
        boxes, logits, level = (torch.cat(parts) for parts in zip(*found, strict=True))
        if cfg.get("min_bbox_size", -1) >= 0:
            kept = ((boxes[:, 2:] - boxes[:, :2]) > cfg.min_bbox_size).all(1)
            boxes, logits, level = boxes[kept], logits[kept], level[kept]
        # Those of one level do not meet those of another, as in mmcv's batched_nms.
        apart = boxes + (level * (boxes.max() + 1))[:, None]
        return boxes[nms(apart, logits, cfg.nms["iou_threshold"])[: cfg.max_per_img]]


class MaskGraph(nn.Module):
    """The second graph of a detector.

    Args:
        roi_head (ViTDetCascadeRoIHead): Its RoI head.
    """

    def __init__(self, roi_head: ViTDetCascadeRoIHead) -> None:
        super().__init__()
        self.extractor, self.mask_head = roi_head.mask_roi_extractor, roi_head.mask_head

    def forward(self, *inputs: Tensor) -> Tensors:
        """Levels, and regions (K, 5) as (0, x1, y1, x2, y2) -> logits (K, classes, 28, 28)."""
        return (self.mask_head(_pooled(self.extractor, inputs[:-1], inputs[-1])),)


def _pooled(extractor: PreciseRoIExtractor, levels: Sequence[Tensor], regions: Tensor) -> Tensor:
    """RoIAlign of regions (K, 5), each of its level: (K, C, size, size)."""
    count = extractor.num_inputs
    level = extractor.map_roi_levels(regions, count)
    pooled, order = [], []
    for number, (layer, x) in enumerate(zip(extractor.roi_layers, levels[:count], strict=True)):
        index = (level == number).nonzero()[:, 0]
        pooled.append(
            roi_align(
                x,
                regions[index],
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
        )
        order.append(index)
    return torch.cat(pooled)[torch.cat(order).argsort()]


def _regions(boxes: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)


def _inside(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes cut off at the image, of which ``size`` is (width, height)."""
    return torch.minimum(boxes.clamp(min=0), size.repeat(2))


def _padded(model: CascadeRCNN, image: Tensor) -> Tensor:
    """As the model's preprocessor pads a batch of one image."""
    preprocessor: Any = model.data_preprocessor
    down, right = (-side % preprocessor.pad_size_divisor for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, down), value=float(preprocessor.pad_value))


def _extractors(roi_head: ViTDetCascadeRoIHead) -> list[nn.Module]:
    masks = [roi_head.mask_roi_extractor] if roi_head.with_mask else []
    return [*roi_head.bbox_roi_extractor, *masks]


def _levels(count: int) -> dict[str, dict[int, str]]:
    return {f"level{n}": {2: f"height{n}", 3: f"width{n}"} for n in range(count)}
