"""The cascade, row by row of what detectron2's ViTDet does and mmdet's defaults do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.models.roi_heads.mask_heads import fcn_mask_head
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.samplers import PseudoSampler, RandomSampler
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmbeit3 import accelerate
from mmbeit3.models import PreciseRoIExtractor
from mmbeit3.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "beit3_vitdet"


@pytest.fixture
def detector() -> torch.nn.Module:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIGS / "cascade-mask-rcnn_beit3-tiny_shapes.py").model
    cfg.backbone.arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    cfg.neck.in_channels = 32
    model = MODELS.build(cfg)
    model.init_weights()
    for head in model.roi_head.bbox_head:  # so that classes and boxes of the stages differ
        torch.nn.init.normal_(head.fc_cls.weight, std=0.05)
        torch.nn.init.normal_(head.fc_reg.weight, std=0.01)
    return model


def samples(boxes: list[list[list[float]]], size: int = 160) -> list[DetDataSample]:
    """One data sample per image with boxes, their masks and labels 0, 1, 2, ..."""
    out = []
    for image_boxes in boxes:
        masks = torch.zeros(len(image_boxes), size, size, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, image_boxes, strict=True):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(size, size),
                ori_shape=(size, size),
                batch_input_shape=(size, size),
                pad_shape=(size, size),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(image_boxes).reshape(-1, 4),
            labels=torch.arange(len(image_boxes)) % 5,
            masks=BitmapMasks(masks.numpy(), size, size),
        )
        out.append(sample)
    return out


GT = [[[20.0, 20, 70, 80], [90, 60, 140, 120]], [[10, 100, 60, 150]]]


def test_a_training_step_reaches_every_parameter(detector: torch.nn.Module) -> None:
    detector.train()
    losses = detector.loss(torch.randn(2, 3, 160, 160), samples(GT))
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_mask", "s0.loss_cls", "s2.loss_bbox"} <= set(
        losses
    )
    total, _ = detector.parse_losses(losses)
    total.backward()
    dead = [name for name, param in detector.named_parameters() if param.grad is None]
    assert not dead
    zero = [name for name, param in detector.named_parameters() if not param.grad.any()]
    assert not zero


def test_images_without_objects_train(detector: torch.nn.Module) -> None:
    detector.train()
    losses = detector.loss(torch.randn(2, 3, 160, 160), samples([[], []]))
    total, _ = detector.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    dead = [name for name, param in detector.named_parameters() if param.grad is None]
    assert not dead  # distributed training would wait for them for ever


def test_one_mask_head_and_no_new_sampling(detector: torch.nn.Module) -> None:
    head = detector.roi_head
    assert not isinstance(head.mask_head, torch.nn.ModuleList)
    assert isinstance(head.bbox_sampler[0], RandomSampler)
    assert all(isinstance(sampler, PseudoSampler) for sampler in head.bbox_sampler[1:])
    assert isinstance(head.mask_roi_extractor, PreciseRoIExtractor)


def test_later_stages_take_every_box_ground_truth_included(
    detector: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.train()
    head, seen = detector.roi_head, []
    forward = head._bbox_forward

    def recording(stage: int, x: tuple, rois: torch.Tensor) -> dict:
        seen.append(rois)
        return forward(stage, x, rois)

    monkeypatch.setattr(head, "_bbox_forward", recording)
    detector.loss(torch.randn(2, 3, 160, 160), samples(GT))
    first, second, third = seen
    # 32 sampled an image in this config; a box may vanish at the image's edge, none is added
    assert len(first) == 64
    assert 0.9 * len(first) <= len(third) <= len(second) <= len(first)
    gts = bbox2roi([torch.tensor(boxes) for boxes in GT])
    assert all((first == gt).all(1).any() for gt in gts)


def test_gradient_into_the_pyramid_is_divided_by_the_stages(detector: torch.nn.Module) -> None:
    head = detector.roi_head.train()
    levels = [torch.randn(1, 64, 40, 40, requires_grad=True), torch.randn(1, 64, 20, 20)]
    rois = torch.tensor([[0.0, 10, 10, 30, 30]])
    head._bbox_forward(1, levels, rois)["cls_score"].sum().backward()
    scaled = levels[0].grad.clone()
    own = head.bbox_head[1].fc_cls.weight.grad.clone()
    levels[0].grad = None
    head.zero_grad()
    features = head.bbox_roi_extractor[1](levels, rois)
    head.bbox_head[1](features)[0].sum().backward()
    torch.testing.assert_close(scaled * 3, levels[0].grad)
    torch.testing.assert_close(own, head.bbox_head[1].fc_cls.weight.grad)


@torch.no_grad()
def test_probabilities_are_averaged_and_boxes_refined(detector: torch.nn.Module) -> None:
    head = detector.roi_head.eval()
    levels = [torch.randn(2, 64, 40, 40), torch.randn(2, 64, 20, 20)]
    metas = [sample.metainfo for sample in samples(GT)]
    start = [torch.tensor(boxes) for boxes in GT]
    boxes, probabilities = head._cascade(levels, start, metas)
    by_hand, expected = bbox2roi(start), []
    for stage in range(3):
        score, delta = head.bbox_head[stage](head.bbox_roi_extractor[stage](levels, by_hand))
        expected.append(score.softmax(-1))
        decoded = head.bbox_head[stage].bbox_coder.decode(by_hand[:, 1:], delta, (160, 160))
        by_hand = torch.cat([by_hand[:, :1], decoded], 1)
    torch.testing.assert_close(torch.cat(probabilities), sum(expected) / 3)
    torch.testing.assert_close(torch.cat(boxes), by_hand[:, 1:])
    assert [len(box) for box in boxes] == [2, 1]


@torch.no_grad()
@pytest.mark.parametrize("nms", ["soft_nms", "nms"])
def test_prediction(detector: torch.nn.Module, nms: str) -> None:
    detector.eval()
    detector.roi_head.test_cfg.nms = dict(type=nms, iou_threshold=0.5)
    detector.roi_head.test_cfg.max_per_img = 7
    results = detector.predict(torch.randn(2, 3, 160, 160), samples(GT))
    for sample in results:
        found = sample.pred_instances
        assert len(found) == 7
        assert found.masks.shape == (7, 160, 160)
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        assert found.bboxes.min() >= 0 and found.bboxes.max() <= 160


@torch.no_grad()
def test_no_proposals(detector: torch.nn.Module) -> None:
    detector.eval()
    levels = [torch.randn(2, 64, 40, 40), torch.randn(2, 64, 20, 20)]
    empty = [InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0)) for _ in range(2)]
    for results in detector.roi_head.predict(levels, empty, samples(GT), rescale=True):
        assert len(results) == 0
        assert results.masks.shape == (0, 160, 160)


@torch.no_grad()
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("threshold", [0.5, 0.4, -1])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_accelerated_masks_are_those_of_mmdet(
    detector: torch.nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    rescale: bool,
    threshold: float,
    class_agnostic: bool,
) -> None:
    head = detector.roi_head.eval()
    head.test_cfg.mask_thr_binary = threshold
    head.mask_head.class_agnostic = class_agnostic
    logits = torch.randn(3, 1 if class_agnostic else 5, 28, 28) * 3
    monkeypatch.setattr(head, "_mask_forward", lambda x, rois: logits)
    metas = [
        dict(ori_shape=(93, 107), scale_factor=factors) for factors in ((1.6, 1.7), (0.7, 0.6))
    ]

    def boxes() -> list[InstanceData]:
        two, one = [[20.2, 30, 70, 80], [90, 60, 180, 120]], [[-5, 9, 60, 70.6]]
        return [
            InstanceData(bboxes=torch.tensor(two), labels=torch.tensor([4, 1])),
            InstanceData(bboxes=torch.tensor(one), labels=torch.tensor([2])),
        ]

    theirs = head.predict_mask((), metas, boxes(), rescale)
    accelerate(head)
    monkeypatch.setattr(fcn_mask_head, "_do_paste_mask", None)
    ours = head.predict_mask((), metas, boxes(), rescale)
    for found, expected in zip(ours, theirs, strict=True):
        assert torch.equal(found.bboxes, expected.bboxes)
        assert found.masks.dtype == expected.masks.dtype and found.masks.any()
        if threshold > 0:
            assert torch.equal(found.masks, expected.masks)
        else:
            assert (found.masks.int() - expected.masks.int()).abs().max() <= 1


@torch.no_grad()
@pytest.mark.parametrize("fast", [False, True])
def test_an_image_without_boxes_beside_one_with(
    detector: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    head = detector.roi_head.eval()
    if fast:
        accelerate(head)
    monkeypatch.setattr(head, "_mask_forward", lambda x, rois: torch.ones(len(rois), 5, 28, 28))
    metas = [dict(ori_shape=(50, 60), scale_factor=(1.0, 1.0))] * 2
    results = [
        InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)),
        InstanceData(bboxes=torch.tensor([[10.0, 10, 30, 30]]), labels=torch.tensor([0])),
    ]
    none, one = head.predict_mask((), metas, results, rescale=True)
    assert none.masks.shape == (0, 50, 60) and one.masks.sum() == 20 * 20


def pyramid(channels: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, 80 >> i, 96 >> i, generator=generator) for i in range(3)]


def extractor_and_rois(levels: int, **layer: object) -> tuple[PreciseRoIExtractor, torch.Tensor]:
    """And boxes of all levels; the last has less than no area, which is of no level."""
    init_default_scope("mmdet")
    extractor = PreciseRoIExtractor(
        roi_layer=dict(type="RoIAlign", output_size=7) | layer,
        out_channels=4,
        featmap_strides=[4, 8, 16][:levels],
    )
    boxes = [[1.0, 9, 31, 42], [33, 2, 200, 180], [0, 0, 380, 319], [90, 90, 290, 99]]
    images = torch.tensor([[0.0], [1], [1], [0], [1]])
    return extractor, torch.cat((images, torch.tensor([*boxes, [20.0, 90, 60, 80]])), dim=1)


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("factor", [None, 1.3])
@pytest.mark.parametrize("layer", [{}, {"sampling_ratio": 2}, {"aligned": False}])
def test_accelerated_features_are_those_of_mmdet(
    monkeypatch: pytest.MonkeyPatch, layer: dict, factor: float | None, levels: int
) -> None:
    extractor, rois = extractor_and_rois(levels, **layer)
    maps = pyramid()[:levels]
    rois = rois if levels > 1 else rois[:-1]  # torchvision crashes on the last
    expected = extractor(maps, rois, factor)
    accelerate(extractor)
    monkeypatch.setattr(SingleRoIExtractor, "forward", None)
    torch.testing.assert_close(extractor(maps, rois, factor), expected)
    assert expected.any()


def test_what_needs_a_gradient_gets_it() -> None:
    extractor, rois = extractor_and_rois(3)
    accelerate(extractor)
    maps = [level.requires_grad_() for level in pyramid()]
    pooled = extractor(maps, rois)
    pooled.sum().backward()
    assert all(level.grad.any() for level in maps)
    with torch.no_grad():
        torch.testing.assert_close(extractor(maps, rois), pooled)


@torch.no_grad()
@pytest.mark.parametrize("layer", [{"pool_mode": "max"}, {"type": torch.nn.Identity}])
def test_other_layers_are_left_to_mmdet(monkeypatch: pytest.MonkeyPatch, layer: dict) -> None:
    extractor, rois = extractor_and_rois(3, **layer)
    accelerate(extractor)
    result = torch.full((5, 4, 7, 7), 3.0)
    monkeypatch.setattr(SingleRoIExtractor, "forward", lambda *args: result)
    assert torch.equal(extractor(pyramid(), rois), result)


def test_rois_keep_float32_beside_half_features() -> None:
    init_default_scope("mmdet")
    extractor = PreciseRoIExtractor(
        roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2),
        out_channels=4,
        featmap_strides=[4],
    )
    # A ramp along x: RoIAlign of it is linear in the box, so a moved box shows.
    ramp = torch.arange(320.0).expand(1, 4, 8, 320).bfloat16()
    rois = torch.tensor([[0, 1027.3, 4, 1083.1, 28]])
    got = extractor([ramp], rois)
    want = extractor([ramp.float()], rois)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, want.bfloat16(), rtol=0, atol=0)
