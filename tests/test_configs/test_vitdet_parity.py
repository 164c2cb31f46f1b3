"""The recipe beside detectron2's ViTDet: cascade, values, and every parameter accounted for.

detectron2 is facebookresearch/detectron2: ``configs/common/models/mask_rcnn_vitdet.py``,
``projects/ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_*.py``, and the code these name.
What mmdet's own cascade does otherwise, and the test that holds ours to detectron2:

==========================  ========================================================================
box head 4 conv (LN), 1 fc  test_box_heads
stage weights, gradient/3   test_losses_of_the_stages; tests/test_models/test_roi_heads/
                            ::test_gradient_into_the_pyramid_is_divided_by_the_stages
box loss L1                 test_losses_of_the_stages
RPN box loss L1             test_losses_of_the_rpn
two RPN convolutions        test_rpn_head
allowed_border -1           test_anchors_across_the_border_train
1000 proposals              test_proposals
no sampling in stage 2, 3   tests/test_models/test_roi_heads/
                            ::test_later_stages_take_every_box_ground_truth_included
one mask head               test_masks_learn_from_the_first_stage_only,
                            test_one_mask_head_runs_once_on_the_final_boxes
box weights of the stages   test_box_targets_of_the_stages
scores averaged             tests/test_models/test_roi_heads/
                            ::test_probabilities_are_averaged_and_boxes_refined
score 0.05, NMS 0.5, 100    test_detections_that_are_kept
low-quality matches         test_matching_of_rois, test_matching_of_anchors,
                            test_targets_of_anchors_among_many_objects
proposals by logit, boxes   tests/test_models/test_dense_heads/test_rpn_head.py,
in float32                  test_boxes_stay_in_float32_between_the_stages
growth of a box clamped     test_box_targets_of_the_stages
start values                test_start_values
polygons                    test_masks_stay_polygons
padding                     test_boxes_end_at_the_image, test_anchors_over_the_padding_train
==========================  ========================================================================

Deviations meant to be: windows of 16 without padding (tests/test_models/test_backbones/
test_windows.py), LN eps 1e-5 in the backbone as in BEiT-3, no relative positions, Inception pixel
statistics, bfloat16 instead of float16, test images padded to 32 pixels and not to a square.

Deviations of detail, and what they do:

==========================  ========================================================================
relative positions (an      Read as they are at the middle of a table that is larger than the grid;
option, off in the configs) detectron2 shrinks the whole table to the grid. A smaller image then has
                            the table's value for each distance in patches, where detectron2 has it
                            for the same part of the image. At the table's size, as in training, and
                            on larger grids both are the same
                            (tests/test_models/test_layers/test_relative_position.py).
object without any anchor   Has none; detectron2 then makes every anchor of the image positive. It
                            takes a box outside of the image or without area.
gamma of the ViT-Adapter    0, as its paper has it; its code starts BEiT's at 1e-6, which adds a
                            millionth of what the pyramid says to the tower. Both start as the plain
                            tower; from 0, the injectors' own weights learn from the second step on.
==========================  ========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import rpn_head
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import box_iou

from mmbeit3.engine.layer_decay import LayerDecayConstructor
from mmbeit3.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_vitdet"
SIDE = 128  # of the small detector's square


def config(name: str) -> Config:
    init_default_scope("mmdet")
    return Config.fromfile(FOLDER / f"cascade-mask-rcnn_beit3-{name}_coco.py")


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return MODELS.build(config(name).model)


@pytest.fixture(scope="module")
def full() -> nn.Module:
    """The base detector as configured, without memory."""
    return on_meta("base_lsj-1024")


@pytest.fixture
def small() -> nn.Module:
    """The base detector with every width cut down, and nothing else but the side of the square."""
    cfg = config("base_lsj-1024").model
    cfg.backbone.arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    cfg.neck.update(in_channels=32, out_channels=16)
    cfg.rpn_head.update(in_channels=16, feat_channels=16)
    roi = cfg.roi_head
    for head in roi.bbox_head:
        head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    roi.mask_head.update(in_channels=16, conv_out_channels=16)
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 16
    cfg.data_preprocessor.batch_augments[0].size = (SIDE, SIDE)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    for head in model.roi_head.bbox_head:  # so that the stages differ, and boxes move
        nn.init.normal_(head.fc_cls.weight, std=0.3)
        nn.init.normal_(head.fc_reg.weight, std=0.05)
    return model


def batch(model: nn.Module, sizes: list[tuple[int, int]], boxes: list, training: bool) -> dict:
    """Images of the given (height, width) with objects at ``boxes``, preprocessed."""
    inputs, samples = [], []
    for (height, width), image_boxes in zip(sizes, boxes, strict=True):
        masks = np.zeros((len(image_boxes), height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, image_boxes, strict=True):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(image_boxes).float().reshape(-1, 4),
            labels=torch.arange(len(image_boxes)) + 7,
            masks=BitmapMasks(masks, height, width),
        )
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=inputs, data_samples=samples), training)


def recording(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: list[tuple[dict, object]]
) -> None:
    """Write the keyword arguments and the result of each call of a method into ``calls``."""
    original: Callable = getattr(owner, name)

    def wrapper(*args, **kwargs) -> object:
        result = original(*args, **kwargs)
        calls.append((kwargs | {str(index): arg for index, arg in enumerate(args)}, result))
        return result

    monkeypatch.setattr(owner, name, wrapper)


def detectron2_deltas(boxes: Tensor, targets: Tensor, weights: tuple[float, float]) -> Tensor:
    """``Box2BoxTransform.get_deltas``: what moves ``boxes`` (N, 4) onto ``targets`` (N, 4)."""
    size, wanted = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    center, goal = boxes[:, :2] + size / 2, targets[:, :2] + wanted / 2
    shift, stretch = weights
    return torch.cat([shift * (goal - center) / size, stretch * (wanted / size).log()], 1)


# ---------------------------------------------------------------- layers (sections 2.1 to 2.3)


def test_backbone_ends_without_a_norm_and_keeps_the_eps_of_beit3(full: nn.Module) -> None:
    assert isinstance(full.backbone.norm, nn.Identity)
    norms = [module for module in full.backbone.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 4 * 12
    assert {norm.eps for norm in norms} == {1e-5}
    assert full.backbone.cls_token is None


def test_every_norm_of_pyramid_and_heads_is_channel_first_with_detectron2s_eps(
    full: nn.Module,
) -> None:
    found = [
        (type(module).__name__, module.eps)
        for part in (full.neck, full.rpn_head, full.roi_head)
        for module in part.modules()
        if isinstance(module, nn.LayerNorm)
    ]
    # pyramid: two a level and one in p2; heads: four in each of three box heads and the mask head
    assert found == [("LayerNorm2d", 1e-6)] * (2 * 4 + 1 + 4 * 4)


def is_conv_ln_relu(module: ConvModule, channels: int = 256) -> bool:
    conv = module.conv
    return (
        (conv.in_channels, conv.out_channels, conv.kernel_size, conv.padding)
        == (channels, channels, (3, 3), (1, 1))
        and conv.bias is None
        and tuple(module.norm.normalized_shape) == (channels,)
        and isinstance(module.activate, nn.ReLU)
        and module.order == ("conv", "norm", "act")
    )


def test_box_heads(full: nn.Module) -> None:
    assert len(full.roi_head.bbox_head) == 3
    for head in full.roi_head.bbox_head:
        convs = [module for module in head.modules() if isinstance(module, ConvModule)]
        assert len(convs) == 4 and all(map(is_conv_ln_relu, convs))
        linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linears] == [
            (1024, 80 + 1), (1024, 4), (256 * 7 * 7, 1024)
        ]  # fmt: skip


def test_mask_head(full: nn.Module) -> None:
    head = full.roi_head.mask_head
    assert len(head.convs) == 4 and all(map(is_conv_ln_relu, head.convs))
    upsample, predictor = head.upsample, head.conv_logits
    assert isinstance(upsample, nn.ConvTranspose2d)
    assert (upsample.out_channels, upsample.kernel_size, upsample.stride) == (256, (2, 2), (2, 2))
    assert (predictor.out_channels, predictor.kernel_size) == (80, (1, 1))


def test_rpn_head(full: nn.Module) -> None:
    head = full.rpn_head
    assert len(head.rpn_conv) == 2
    for module in head.rpn_conv:
        assert module.conv.kernel_size == (3, 3) and module.conv.bias is not None
        assert not module.with_norm and isinstance(module.activate, nn.ReLU)
    assert (head.rpn_cls.out_channels, head.rpn_reg.out_channels) == (3, 3 * 4)


def test_anchors(full: nn.Module) -> None:
    """Sides 32 to 512, ratios (height by width) 1/2, 1, 2, the first centerd on the corner."""
    generator = full.rpn_head.prior_generator
    levels = generator.grid_priors([(2, 2)] * 5, device="cpu")
    for found, stride in zip(levels, (4, 8, 16, 32, 64), strict=True):
        expected = []
        for ratio in (0.5, 1.0, 2.0):
            width = 8 * stride / ratio**0.5
            half = torch.tensor([width, width * ratio]) / 2
            expected.append(torch.cat([-half, half]))
        first = torch.stack(expected)
        shift = torch.tensor([stride, 0.0, stride, 0.0])
        torch.testing.assert_close(found[:6], torch.cat([first, first + shift]))


def test_rois_are_aligned_and_spread_over_the_levels(full: nn.Module) -> None:
    """ROIAlignV2 with adaptive sampling; level 4 + log2(side / 224), p2 to p5."""
    extractors = [*full.roi_head.bbox_roi_extractor, full.roi_head.mask_roi_extractor]
    for extractor, size in zip(extractors, (7, 7, 7, 14), strict=True):
        assert extractor.featmap_strides == [4, 8, 16, 32]
        for layer, stride in zip(extractor.roi_layers, (4, 8, 16, 32), strict=True):
            assert layer.aligned and layer.sampling_ratio == 0
            assert (layer.output_size, layer.spatial_scale) == ((size, size), 1 / stride)
        sides = torch.tensor([8.0, 111, 113, 223, 225, 447, 449, 1024])
        rois = torch.stack([torch.zeros(8), torch.zeros(8), torch.zeros(8), sides, sides], 1)
        want = (4 + (sides / 224).log2()).floor().clamp(2, 5) - 2
        assert extractor.map_roi_levels(rois, 4).tolist() == want.tolist()


# ---------------------------------------------------------------- training (section 4)


def test_losses_of_the_stages(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-entropy and L1, each over all RoIs of the stage, each stage with weight 1."""
    calls: list[list] = [[], [], []]
    for stage, head in enumerate(small.roi_head.bbox_head):
        recording(monkeypatch, head, "loss_and_target", calls[stage])
    boxes = [[[8, 8, 60, 70], [50, 30, 120, 120]], [[10, 20, 50, 44]]]
    data = batch(small, [(SIDE, SIDE), (96, 64)], boxes, training=True)
    losses = small.loss(data["inputs"], data["data_samples"])
    for stage, weights in enumerate(((10, 5), (20, 10), (30, 15))):
        ((given, _),) = calls[stage]
        samples = given["sampling_results"]
        labels, targets, positive = [], [], []
        for sample in samples:
            positive += [True] * len(sample.pos_priors) + [False] * len(sample.neg_priors)
            labels += [sample.pos_gt_labels, torch.full((len(sample.neg_priors),), 80)]
            targets.append(detectron2_deltas(sample.pos_priors, sample.pos_gt_bboxes, weights))
        cross_entropy = F.cross_entropy(given["cls_score"], torch.cat(labels))
        difference = given["bbox_pred"][torch.tensor(positive)] - torch.cat(targets)
        assert sum(positive) > 2 and difference.abs().mean() > 0.01
        l1 = difference.abs().sum() / len(positive)
        torch.testing.assert_close(losses[f"s{stage}.loss_cls"], cross_entropy)
        torch.testing.assert_close(losses[f"s{stage}.loss_bbox"], l1)


def test_masks_learn_from_the_first_stage_only(
    small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list = []
    masks: list = []
    recording(monkeypatch, small.roi_head, "bbox_loss", stages)
    recording(monkeypatch, small.roi_head, "_mask_forward", masks)
    data = batch(small, [(SIDE, SIDE)], [[[8, 8, 60, 70], [50, 30, 120, 120]]], training=True)
    losses = small.loss(data["inputs"], data["data_samples"])
    ((given, logits),) = masks
    (sample,) = stages[0][0]["2"]
    assert torch.equal(given["1"][:, 1:], sample.pos_priors) and len(logits) >= 2
    assert [name for name in losses if "mask" in name] == ["loss_mask"]


def test_losses_of_the_rpn(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-entropy and L1 over 256 sampled anchors an image."""
    calls: list = []
    recording(monkeypatch, small.rpn_head, "get_targets", calls)
    nn.init.normal_(small.rpn_head.rpn_reg.weight, std=0.1)
    boxes = [[[8, 8, 60, 70], [50, 30, 120, 120]], [[10, 20, 50, 44]]]
    data = batch(small, [(SIDE, SIDE), (96, 64)], boxes, training=True)
    for sample in data["data_samples"]:
        sample.gt_instances.labels.zero_()
    levels = small.extract_feat(data["inputs"])
    losses = small.rpn_head.loss(levels, data["data_samples"])
    ((_, (labels, weights, targets, box_weights, _)),) = calls
    found_cls, found_box, sampled = 0.0, 0.0, 0
    for level, (scores, deltas) in enumerate(zip(*small.rpn_head(levels), strict=True)):
        scores = scores.permute(0, 2, 3, 1).reshape(2, -1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(2, -1, 4)
        taken = weights[level] > 0
        objects = (labels[level] == 0).float()  # mmdet's label of the one class
        found_cls += F.binary_cross_entropy_with_logits(
            scores[taken], objects[taken], reduction="sum"
        )
        positive = box_weights[level][..., 0] > 0
        assert torch.equal(positive, taken & (objects > 0))
        found_box += (deltas - targets[level])[positive].abs().sum()
        sampled += int(taken.sum())
    assert sampled == 2 * 256
    torch.testing.assert_close(sum(losses["loss_rpn_cls"]), found_cls / sampled)
    torch.testing.assert_close(sum(losses["loss_rpn_bbox"]), found_box / sampled)
    assert found_box > 0


def trained_anchors(
    model: nn.Module, sizes: list[tuple[int, int]], boxes: list, index: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors (N, 4), and which may be positive and negative in the image ``index``, unsampled."""
    head = model.rpn_head
    metas = [
        sample.metainfo for sample in batch(model, sizes, boxes, training=True)["data_samples"]
    ]
    grids = [(SIDE // stride, SIDE // stride) for stride in (4, 8, 16, 32, 64)]
    anchors, valid = head.get_anchors(grids, metas, "cpu")
    anchors, valid = torch.cat(anchors[index]), torch.cat(valid[index])
    head.sampler.num = 10**6  # so that no anchor is left out by chance
    head.sampler.pos_fraction = 1.0
    objects = InstanceData(
        bboxes=torch.tensor(boxes[index]).float().reshape(-1, 4),
        labels=torch.zeros(len(boxes[index]), dtype=torch.long),
    )
    labels, weights, *_ = head._get_targets_single(anchors, valid, objects, metas[index])
    return anchors, (labels == 0) & (weights > 0), (labels == 1) & (weights > 0)


def test_anchors_across_the_border_train(small: nn.Module) -> None:
    anchors, positive, negative = trained_anchors(small, [(SIDE, SIDE)], [[[0, 0, 56, 56]]])
    across = (anchors.amin(1) < 0) | (anchors.amax(1) > SIDE)
    assert (across & positive).any()
    assert (across & negative).sum() > 100
    small.rpn_head.train_cfg["allowed_border"] = 0  # mmdet's own value
    _, positive, negative = trained_anchors(small, [(SIDE, SIDE)], [[[0, 0, 56, 56]]])
    assert not (across & (positive | negative)).any()


@pytest.mark.parametrize("neighbor", [(40, 60), (SIDE, 60), (SIDE, SIDE)])
def test_anchors_over_the_padding_train(small: nn.Module, neighbor: tuple[int, int]) -> None:
    """detectron2 takes every anchor of the square, whichever image shares the batch."""
    sizes, boxes = [(40, 60), neighbor], [[[5, 5, 35, 35]], []]
    anchors, positive, negative = trained_anchors(small, sizes, boxes)
    ignored = ~(positive | negative)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    outside = (centers > torch.tensor([60.0, 40.0])).any(1)
    assert outside.any() and not (outside & ignored).any()


def test_matching_of_rois(small: nn.Module) -> None:
    """Above 0.5, 0.6, 0.7 in the three stages, and no box below that for being the best."""
    objects = InstanceData(bboxes=torch.tensor([[0.0, 0, 100, 100]]), labels=torch.tensor([3]))
    for stage, threshold in enumerate((0.5, 0.6, 0.7)):
        for overlap in (0.2, threshold - 0.01, threshold + 0.01):
            box = torch.tensor([[0.0, 0, 100, 100 * overlap]])
            assigned = small.roi_head.bbox_assigner[stage].assign(
                InstanceData(priors=box), objects, None
            )
            assert bool(assigned.gt_inds[0] > 0) == (overlap > threshold), (stage, overlap)


def test_matching_of_anchors(small: nn.Module) -> None:
    """Below 0.3 background, from 0.7 object, between ignored, unless the best of an object."""
    square = torch.tensor([[0.0, 0, 100, 100]])
    heights = torch.tensor([29.0, 31, 69, 71])
    zeros = torch.zeros(4)
    anchors = torch.stack([zeros, zeros, zeros + 100, heights], 1)
    objects = InstanceData(bboxes=square, labels=torch.tensor([0]))
    assign = small.rpn_head.assigner.assign
    assert assign(InstanceData(priors=anchors), objects, None).gt_inds.tolist() == [0, -1, -1, 1]
    assert assign(InstanceData(priors=anchors[:3]), objects).gt_inds.tolist() == [0, -1, 1]


def test_the_smallest_object_has_an_anchor(small: nn.Module) -> None:
    """8 x 8 pixels in anchors of 32 x 32: IoU 0.06. detectron2 matches the best, however poor."""
    _, positive, _ = trained_anchors(small, [(SIDE, SIDE)], [[[60, 60, 68, 68]]])
    assert positive.any()


def test_targets_of_anchors_among_many_objects(small: nn.Module) -> None:
    """Each positive anchor learns the object that it overlaps most, whoever made it positive."""
    torch.manual_seed(0)
    corners = torch.randint(0, 90, (40, 2))
    boxes = torch.cat([corners, corners + torch.randint(4, 38, (40, 2))], 1).tolist()
    anchors, positive, _ = trained_anchors(small, [(SIDE, SIDE)], [boxes])
    objects = torch.tensor(boxes).float()
    data = InstanceData(bboxes=objects, labels=torch.zeros(40, dtype=torch.long))
    valid, meta = torch.ones(len(anchors), dtype=torch.bool), dict(img_shape=(SIDE, SIDE))
    _, _, targets, weights, *_ = small.rpn_head._get_targets_single(anchors, valid, data, meta)
    closest = objects[box_iou(objects, anchors).argmax(0)]
    wanted = detectron2_deltas(anchors[positive], closest[positive], (1, 1))
    assert torch.equal(weights[:, 0] > 0, positive) and positive.sum() > 40
    torch.testing.assert_close(targets[positive], wanted)


def test_box_targets_of_the_stages(full: nn.Module) -> None:
    boxes, targets = torch.tensor([[10.0, 20, 50, 100]]), torch.tensor([[12.0, 30, 60, 90]])
    stages = [(head.bbox_coder, weights) for head, weights in zip(
        full.roi_head.bbox_head, ((10, 5), (20, 10), (30, 15)), strict=True
    )]  # fmt: skip
    for coder, weights in [*stages, (full.rpn_head.bbox_coder, (1, 1))]:
        want = detectron2_deltas(boxes, targets, weights)
        torch.testing.assert_close(coder.encode(boxes, targets), want)
        torch.testing.assert_close(coder.decode(boxes, want), targets)
        # Box2BoxTransform.scale_clamp: a box grows 62.5 times at most, and shrinks at will
        grown = coder.decode(boxes, torch.tensor([[0.0, 0, 1000, -1000]]))
        torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(40 * 1000 / 16))
        assert grown[0, 3] == grown[0, 1]


def test_boxes_stay_in_float32_between_the_stages(
    small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training step in bfloat16 hands on what the deltas of its layers say in float32."""
    stages: list = []
    given: list = []
    recording(monkeypatch, small.roi_head, "bbox_loss", stages)
    recording(monkeypatch, small.roi_head, "_sample", given)
    for head in small.roi_head.bbox_head:
        nn.init.normal_(head.fc_reg.weight, std=0.5)  # boxes move far
    boxes = [[[8, 8, 60, 70], [50, 30, 120, 120]]]
    data = batch(small, [(SIDE, SIDE)], boxes, training=True)
    with torch.autocast("cpu", torch.bfloat16):
        losses = small.loss(data["inputs"], data["data_samples"])
    assert all(
        loss.dtype == torch.float32
        for name, value in losses.items()
        if "loss" in name
        for loss in (value if isinstance(value, list) else [value])
    )
    for stage, weights in enumerate(((10, 5), (20, 10))):
        results = stages[stage][1]
        deltas = results["bbox_pred"]
        assert torch.equal(deltas, deltas.bfloat16().float())  # a layer in bfloat16 made them
        rois = results["rois"][:, 1:]
        corners = moved(rois, deltas, weights).clamp(0, SIDE)
        corners = corners[(corners[:, 2:] > corners[:, :2]).all(1)]
        handed_on = given[stage + 1][0]["1"]
        assert handed_on.dtype == torch.float32
        torch.testing.assert_close(handed_on, corners)


def moved(boxes: Tensor, deltas: Tensor, weights: tuple[float, float]) -> Tensor:
    """``Box2BoxTransform.apply_deltas`` on boxes (N, 4)."""
    size, centers = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    centers = centers + deltas[:, :2] / weights[0] * size
    half = size * (deltas[:, 2:] / weights[1]).clamp(max=math.log(1000 / 16)).exp() / 2
    return torch.cat([centers - half, centers + half], 1)


def test_low_precision_deltas_of_any_source_are_refined_in_float32(small: nn.Module) -> None:
    torch.manual_seed(0)
    rois = torch.tensor([[0.0, 3, 5, 70, 90], [0, 60, 20, 127, 128], [0, 1, 1, 128, 128]])
    deltas = (torch.randn(3, 4) * 4).bfloat16()
    sampled = [SimpleNamespace(priors=rois)]
    metas = [dict(img_shape=(SIDE, SIDE))]
    head = small.roi_head
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = head._refined(0, dict(rois=rois, bbox_pred=deltas), sampled, metas)
    (exact,) = head._refined(0, dict(rois=rois, bbox_pred=deltas.float()), sampled, metas)
    assert found.dtype == torch.float32 and torch.equal(found, exact)


def test_masks_stay_polygons() -> None:
    pipeline = config("base_lsj-1024").train_pipeline
    (loading,) = (step for step in pipeline if step.type == "LoadAnnotations")
    instance = dict(bbox=[0, 0, 9, 9], bbox_label=1, ignore_flag=0, mask=[[0, 0, 9, 0, 9, 9.0]])
    results = TRANSFORMS.build(loading)(
        dict(height=20, width=20, ori_shape=(20, 20), instances=[instance])
    )
    assert isinstance(results["gt_masks"], PolygonMasks)


# ---------------------------------------------------------------- start values


def heads_at_full_width(name: str) -> nn.Module:
    """The config's pyramid and heads, drawn, behind a backbone cut down."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(FOLDER / f"{name}.py").model
    width = cfg.neck.in_channels
    cfg.backbone.arch = dict(
        embed_dims=width, num_layers=1, num_heads=1, feedforward_channels=width
    )
    cfg.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def start_values(model: nn.Module) -> dict[str, tuple[str, float]]:
    """Distribution and standard deviation of every weight that detectron2 draws, by its formulas.

    ``c2_msra_fill`` is normal by the outputs, ``c2_xavier_fill`` uniform by the inputs; the pyramid
    has torch's own start values.
    """
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        weight = module.weight
        area = weight[0, 0].numel() if weight.dim() == 4 else 1
        if name.startswith("neck"):
            found[name] = "uniform", (3 * weight.shape[1] * area) ** -0.5
        elif name.startswith("rpn_head"):
            found[name] = "normal", 0.01
        elif name.endswith(("fc_reg", "conv_logits")):
            found[name] = "normal", 0.001
        elif name.endswith("fc_cls"):
            found[name] = "normal", 0.01
        elif "shared_fcs" in name:
            found[name] = "uniform", weight.shape[1] ** -0.5
        else:  # convolutions of the box and mask heads, and the deconvolution
            found[name] = "normal", (2 / (weight.shape[0] * area)) ** 0.5
    return found


@pytest.mark.parametrize(
    "name",
    [
        "cascade-mask-rcnn_beit3-base_lsj-1024_coco",
        "cascade-rcnn_beit3-base_lsj-1024_objects365",
        "cascade-mask-rcnn_beit3-base_custom",
        "cascade-mask-rcnn_beit3-tiny_shapes",
    ],
)
def test_start_values(name: str) -> None:
    model = heads_at_full_width(name)
    del model.backbone
    expected = start_values(model)
    if "tiny" in name:  # made to learn in minutes; its config says so
        del expected["roi_head.mask_head.conv_logits"]
    if "lsj-1024_coco" in name:
        assert len(expected) == 11 + 4 + 3 * (4 + 1 + 2) + 4 + 2
        assert round(expected["roi_head.bbox_head.2.shared_fcs.0"][1], 4) == 0.0089
    for part, (distribution, std) in expected.items():
        module = model.get_submodule(part)
        weight = module.weight.detach()
        error = 4 / (2 * weight.numel()) ** 0.5  # four times that of a sample's deviation
        assert weight.std() == pytest.approx(std, rel=error), part
        assert abs(weight.mean()) < 5 * std / weight.numel() ** 0.5, part
        # a uniform one ends at the root of 3; of a normal one a twelfth lies beyond
        beyond = (weight.abs() > 1.74 * std).float().mean()
        assert (beyond > 0.02) == (distribution == "normal"), part
        if module.bias is not None and not part.startswith("neck"):
            assert not module.bias.any(), part
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all()


# ---------------------------------------------------------------- test time (section 4)


@torch.no_grad()
@pytest.mark.parametrize(("training", "per_level"), [(True, 2000), (False, 1000)])
def test_proposals(
    full: nn.Module, monkeypatch: pytest.MonkeyPatch, training: bool, per_level: int
) -> None:
    """2000 (training) or 1000 (test) a level go into NMS at 0.7, level by level; 1000 come out."""
    calls: list = []
    recording(monkeypatch, rpn_head, "batched_nms", calls)
    head = full.rpn_head
    torch.manual_seed(0)
    grids = [(512 // stride, 512 // stride) for stride in (4, 8, 16, 32, 64)]
    scores = [torch.randn(1, 3, *grid) for grid in grids]
    deltas = [torch.randn(1, 12, *grid) * 0.05 for grid in grids]
    proposals_cfg = config("base_lsj-1024").model.train_cfg.rpn_proposal
    (found,) = head.predict_by_feat(
        scores,
        deltas,
        batch_img_metas=[dict(img_shape=(512, 512))],
        cfg=proposals_cfg if training else head.test_cfg,
    )
    ((given, _),) = calls
    assert given["2"].bincount().tolist() == [
        min(per_level, 3 * height * width) for height, width in grids
    ]
    assert given["3"] == dict(type="nms", iou_threshold=0.7)
    assert len(found) == 1000
    assert found.bboxes.amin() == 0
    assert found.bboxes.amax(0)[2:].tolist() == [512, 512]


def test_detections_that_are_kept(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores above 0.05, NMS at 0.5 class by class, at most 100."""
    head = small.roi_head
    square = torch.tensor([0.0, 0, 100, 100])
    kept, suppressed = torch.tensor([0.0, 0, 100, 48]), torch.tensor([0.0, 0, 100, 52])

    def found(boxes: list[Tensor], scores: list[tuple[int, float]]) -> InstanceData:
        probabilities = torch.zeros(len(boxes), 81)
        for row, (label, score) in zip(probabilities, scores, strict=True):
            row[label], row[80] = score, 1 - score
        monkeypatch.setattr(head, "_cascade", lambda *_: ([torch.stack(boxes)], [probabilities]))
        proposals = [InstanceData(bboxes=torch.stack(boxes))]
        (results,) = head.predict_bbox((), [{}], proposals, head.test_cfg)
        return results

    assert len(found([square, kept], [(5, 0.9), (5, 0.8)])) == 2
    assert found([square, suppressed], [(5, 0.9), (5, 0.8)]).scores.tolist() == pytest.approx([0.9])
    assert len(found([square, suppressed], [(5, 0.9), (6, 0.8)])) == 2
    results = found([square, square], [(5, 0.051), (6, 0.049)])
    assert results.labels.tolist() == [5]
    apart = [torch.tensor([20.0 * i, 0, 20 * i + 10, 10]) for i in range(130)]
    assert len(found(apart, [(1, 0.9)] * 130)) == 100


@torch.no_grad()
def test_one_mask_head_runs_once_on_the_final_boxes(
    small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.eval()
    small.roi_head.test_cfg.score_thr = 0.0
    calls: list = []
    recording(monkeypatch, small.roi_head, "_mask_forward", calls)
    data = batch(small, [(SIDE, SIDE), (96, 64)], [[], []], training=False)
    levels = small.extract_feat(data["inputs"])
    proposals = small.rpn_head.predict(levels, data["data_samples"])
    results = small.roi_head.predict(levels, proposals, data["data_samples"], rescale=False)
    ((given, logits),) = calls
    assert [len(result) for result in results] == [100, 100]
    assert given["1"][:, 0].tolist() == [0.0] * 100 + [1.0] * 100
    assert torch.equal(given["1"][:, 1:], torch.cat([result.bboxes for result in results]))
    assert logits.shape == (200, 80, 28, 28)


@torch.no_grad()
def test_boxes_end_at_the_image(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the padding: 96 x 64 and 100 x 90 pixels beside a neighbor of 128 x 128."""
    small.eval()
    small.roi_head.test_cfg.score_thr = 0.0
    for head in small.roi_head.bbox_head:
        nn.init.normal_(head.fc_reg.weight, std=1.0)  # boxes want to be anywhere
    calls: list = []
    recording(monkeypatch, small.roi_head, "_bbox_forward", calls)
    sizes = [(96, 64), (SIDE, SIDE), (100, 90)]
    data = batch(small, sizes, [[], [], []], training=False)
    assert data["inputs"].shape[-2:] == (SIDE, SIDE)
    for sample, size in zip(data["data_samples"], sizes, strict=True):
        assert sample.img_shape == size
    levels = small.extract_feat(data["inputs"])
    proposals = small.rpn_head.predict(levels, data["data_samples"])
    results = small.roi_head.predict(levels, proposals, data["data_samples"], rescale=False)
    for index, (height, width) in enumerate(sizes):
        stages = [given["2"][given["2"][:, 0] == index, 1:] for given, _ in calls]
        assert len(stages) == 3
        for boxes in [*stages, results[index].bboxes]:
            assert boxes.min() >= 0
            assert boxes[:, 2].max() == width and boxes[:, 3].max() == height
        assert results[index].masks.shape[1:] == (height, width)


def test_an_image_keeps_its_shape_in_the_training_square(small: nn.Module) -> None:
    data = batch(small, [(40, 60), (96, 64)], [[[2, 2, 30, 30]], []], training=True)
    first = data["data_samples"][0]
    assert data["inputs"].shape[-2:] == first.batch_input_shape == (SIDE, SIDE)
    assert first.img_shape == (40, 60)
    assert (data["inputs"][0, :, 40:] == 0).all() and (data["inputs"][0, :, :, 60:] == 0).all()
    assert first.gt_instances.masks.masks.shape[1:] == (SIDE, SIDE)


# ---------------------------------------------------------------- values by size (section 2.4)


@pytest.mark.parametrize(
    ("name", "iterations", "milestones", "warmup"),
    [
        ("base_lsj-1024", 184375, (163889, 177546), 250),
        ("large_lsj-1024", 184375, (163889, 177546), 250),
        # ViTDet-H: three quarters, rounded down
        ("giant_lsj-1024", 184375 * 3 // 4, (163889 * 3 // 4, 177546 * 3 // 4), 250),
    ],
)  # fmt: skip
def test_schedule(name: str, iterations: int, milestones: tuple[int, int], warmup: int) -> None:
    cfg = config(name)
    linear, steps = cfg.param_scheduler
    assert cfg.train_cfg.max_iters == steps.end == iterations
    assert tuple(steps.milestones) == milestones and steps.gamma == 0.1
    assert (linear.begin, linear.end, linear.start_factor) == (0, warmup, 0.001)
    assert not (linear.by_epoch or steps.by_epoch)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (1e-4, (0.9, 0.999), 0.1)
    assert cfg.optim_wrapper.clip_grad is None


@pytest.mark.parametrize("name", ["base_lsj-1024", "large_lsj-1024", "giant_lsj-1024"])
def test_weight_decay(name: str) -> None:
    """B, L: none on ``nn.LayerNorm`` and ``pos_embed``; H: on everything. Biases always decay."""
    cfg, model = config(name), on_meta(name)
    options = cfg.optim_wrapper
    wrapper = LayerDecayConstructor(dict(optimizer=options.optimizer), options.paramwise_cfg)(model)
    names = {param: name for name, param in model.named_parameters()}
    free = {
        names[param]
        for group in wrapper.optimizer.param_groups
        for param in group["params"]
        if group["weight_decay"] == 0
    }
    expected = {
        f"{prefix}.{part}"
        for prefix, module in model.named_modules()
        if type(module) is nn.LayerNorm
        for part in ("weight", "bias")
    } | {"backbone.pos_embed"}
    assert free == (set() if name.startswith("giant") else expected)
    others = {
        group["weight_decay"] for group in wrapper.optimizer.param_groups if group["weight_decay"]
    }
    assert others == {0.1}


def test_giant_takes_the_values_of_vitdet_h() -> None:
    cfg = config("giant_lsj-1024")
    assert cfg.model.backbone.drop_path_rate == 0.5
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay_rate=0.9)


def test_large_scale_jitter() -> None:
    steps = config("base_lsj-1024").train_pipeline
    kinds = [step.type for step in steps]
    jitter = ("RandomFlip", "RandomResize", "mmbeit3.PolygonRandomCrop")
    order = [kinds.index(kind) for kind in jitter]
    assert order == sorted(order)
    flip, resize, crop = (steps[index] for index in order)
    assert flip.prob == 0.5
    assert (resize.scale, resize.ratio_range, resize.keep_ratio) == ((1024, 1024), (0.1, 2.0), True)
    assert (crop.crop_type, crop.crop_size) == ("absolute", (1024, 1024))
    assert crop.recompute_bbox


# ---------------------------------------------------------------- parameters, one by one


SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16), "huge": (1280, 32, 16)}  # C, layers, heads


def conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    return inputs * outputs * kernel**2 + bias * outputs


def relative_tables(dim: int, layers: int, heads: int) -> int:
    """Two of (2 S - 1, head_dim) in each block; S = 14 in windows, 1024 / 16 in 4 global blocks."""
    return 2 * (dim // heads) * ((layers - 4) * (2 * 14 - 1) + 4 * (2 * 64 - 1))


def vitdet_backbone(dim: int, layers: int, heads: int) -> int:
    attention = dim * 3 * dim + 3 * dim + dim * dim + dim
    mlp = dim * 4 * dim + 4 * dim + 4 * dim * dim + dim
    block = 2 * 2 * dim + attention + mlp
    positions = (14 * 14 + 1) * dim  # MAE's, its CLS row with it
    return conv(3, dim, 16) + positions + layers * block + relative_tables(dim, layers, heads)


def vitdet_pyramid(dim: int) -> int:
    up = 2 * conv(dim, dim // 2, 2) + 2 * (dim // 2) + conv(dim // 2, dim // 4, 2)
    return up + sum(
        conv(width, 256, 1, bias=False) + conv(256, 256, 3, bias=False) + 2 * 2 * 256
        for width in (dim // 4, dim // 2, dim, dim)
    )


def vitdet_heads() -> int:
    rpn = 2 * conv(256, 256, 3) + conv(256, 3, 1) + conv(256, 12, 1)
    convs = 4 * (conv(256, 256, 3, bias=False) + 2 * 256)
    box = convs + (256 * 7 * 7 + 1) * 1024 + (1024 + 1) * (81 + 4)
    mask = convs + conv(256, 256, 2) + conv(256, 80, 1)
    return rpn + 3 * box + mask


def vitdet(size: str) -> int:
    dim, _, _ = SIZES[size]
    return vitdet_backbone(*SIZES[size]) + vitdet_pyramid(dim) + vitdet_heads()


def count(model: nn.Module, words: tuple[str, ...] = ("",), but: tuple[str, ...] = ()) -> int:
    """Parameters whose names hold one of ``words`` and none of ``but``."""
    return sum(
        param.numel()
        for name, param in model.named_parameters()
        if any(word in name for word in words) and not any(word in name for word in but)
    )


@pytest.mark.parametrize("size", list(SIZES))
def test_the_formula_counts_timms_vitdet_backbone(size: str) -> None:
    """SAM's image encoder is ViTDet's with another neck and other positions."""
    with torch.device("meta"):
        encoder = timm.create_model(f"samvit_{size}_patch16")
    blocks = count(encoder, but=("neck", "pos_embed"))
    assert blocks + 197 * SIZES[size][0] == vitdet_backbone(*SIZES[size])


@pytest.mark.parametrize(
    ("size", "total", "published"),
    [
        ("base", 141_160_990, 141),
        ("large", 360_949_854, 361),
        # Table 9 prints 692: 31,042 parameters more than this would round to that.
        ("huge", 691_468_958, 692),
    ],
)
def test_vitdet_by_formula(size: str, total: int, published: int) -> None:
    """Table 9 of arXiv 2203.16527, in millions."""
    assert vitdet(size) == total
    assert abs(total / 1e6 - published) < (0.55 if size == "huge" else 0.5)


@pytest.mark.parametrize("size", ["base", "large"])
def test_every_parameter_that_differs_from_vitdet_has_a_name(size: str) -> None:
    dim, layers, heads = SIZES[size]
    model = on_meta(f"{size}_lsj-1024")
    sub_norms = count(model.backbone, (".attn.norm.", ".ffn.norm."))
    assert sub_norms == layers * 2 * (dim + 4 * dim)
    assert count(model.backbone, ("pos_embed",)) == 14 * 14 * dim
    differences = dict(
        sub_norms=sub_norms,
        relative_positions=-relative_tables(dim, layers, heads),
        cls_row_of_the_positions=-dim,
    )
    assert vitdet(size) + sum(differences.values()) == count(model)
    assert count(model.neck) == vitdet_pyramid(dim)
    assert count(model.rpn_head) + count(model.roi_head) == vitdet_heads()
    print(f"{size}: ViTDet {vitdet(size):,} + {differences} = {count(model):,}")


def test_giant_in_total() -> None:
    """Table 11 of arXiv 2208.10442 with patches of 16 and sub-LNs; no ViTDet has its widths."""
    model, dim, hidden, layers = on_meta("giant_lsj-1024"), 1408, 6144, 40
    attention = 4 * (dim * dim + dim)
    ffn = 2 * dim * hidden + hidden + dim
    norms = 2 * 2 * dim + 2 * (dim + hidden)
    backbone = conv(3, dim, 16) + 14 * 14 * dim + layers * (attention + ffn + norms)
    assert count(model.backbone) == backbone == 1_011_969_920
    assert count(model) == backbone + vitdet_pyramid(dim) + vitdet_heads() == 1_073_960_766
