"""Proposals: ranked by logit, decoded and learned in float32, whatever the layers run in."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmdet.models.dense_heads import rpn_head
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbeit3.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "beit3_vitdet"
SIDE = 256


def build(name: str = "base_lsj-1024_coco", **changes: object) -> nn.Module:
    """The config's RPN, narrow."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIGS / f"cascade-mask-rcnn_beit3-{name}.py").model
    head = dict(cfg.rpn_head, train_cfg=cfg.train_cfg.rpn, test_cfg=cfg.test_cfg.rpn, num_classes=1)
    head.update(in_channels=16, feat_channels=16, **changes)
    torch.manual_seed(0)
    model = MODELS.build(head)
    model.init_weights()
    return model


@pytest.fixture
def head() -> nn.Module:
    return build()


def grids(head: nn.Module, side: int = SIDE) -> list[tuple[int, int]]:
    return [(side // s, side // s) for s, _ in head.prior_generator.strides]


def outputs(
    head: nn.Module, low: float, high: float, spread: float = 0.3, batch: int = 1
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits between ``low`` and ``high``, and deltas, in bfloat16."""
    logits = [torch.empty(batch, 3, *grid).uniform_(low, high).bfloat16() for grid in grids(head)]
    deltas = [(torch.randn(batch, 12, *grid) * spread).bfloat16() for grid in grids(head)]
    return logits, deltas


def sample(boxes: list[list[float]], side: int = SIDE) -> DetDataSample:
    size = (side, side)
    data = DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size))
    data.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.zeros(len(boxes)).long()
    )
    return data


def rows(levels: list[Tensor], width: int) -> list[Tensor]:
    return [level[0].permute(1, 2, 0).reshape(-1, width) for level in levels]


@pytest.mark.parametrize("name", ["base_lsj-1024_coco", "tiny_shapes"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("low", "high"), [(20, 40), (-40, -20), (-3, 3), (88, 3000)])
def test_bfloat16_gives_the_ranking_and_the_boxes_of_float32(
    name: str, training: bool, low: float, high: float
) -> None:
    """Without suppression: the best of each level by logit, all of them by logit, and decoded."""
    head = build(name)
    logits, deltas = outputs(head, low, high)
    given = Config.fromfile(CONFIGS / f"cascade-mask-rcnn_beit3-{name}.py").model
    cfg = copy.deepcopy(given.train_cfg.rpn_proposal if training else head.test_cfg)
    cfg.nms.iou_threshold = 1.0
    cfg.max_per_img = 10**6
    metas = [dict(img_shape=(SIDE, SIDE))]
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = head.predict_by_feat(logits, deltas, batch_img_metas=metas, cfg=cfg)
    (exact,) = head.predict_by_feat(
        [x.float() for x in logits], [x.float() for x in deltas], batch_img_metas=metas, cfg=cfg
    )
    assert found.scores.dtype == found.bboxes.dtype == torch.float32
    assert torch.equal(found.scores, exact.scores) and torch.equal(found.bboxes, exact.bboxes)
    expected = [x[:, 0].float().sort(descending=True)[0][: cfg.nms_pre] for x in rows(logits, 1)]
    kept = torch.cat(expected).sort(descending=True)[0]
    assert len(found) >= 0.98 * len(kept)  # some boxes lie outside of the image
    assert set(found.scores.tolist()) <= set(kept.tolist())
    assert (found.scores.diff() <= 0).all()
    assert len(found.scores.unique()) > 60  # sigmoids of logits above 20 are all 1
    anchors = head.prior_generator.grid_priors(grids(head), device="cpu")
    boxes = {
        (score, tuple(box))
        for level, scores, own in zip(anchors, rows(logits, 1), rows(deltas, 4), strict=True)
        for score, box in zip(
            scores[:, 0].tolist(),
            head.bbox_coder.decode(level, own.float(), (SIDE, SIDE)).tolist(),
            strict=True,
        )
    }
    results = zip(found.scores.tolist(), map(tuple, found.bboxes.tolist()), strict=True)
    assert all(result in boxes for result in results)


def test_the_better_of_two_saturated_boxes_suppresses_the_other(head: nn.Module) -> None:
    """Logits of 30 and 25: in float32, too, both have a sigmoid of 1."""
    logits = [torch.full((1, 3, *grid), -50.0) for grid in grids(head)]
    deltas = [torch.zeros(1, 12, *grid) for grid in grids(head)]
    # the square anchors of neighboring cells overlap by 0.78
    logits[0][0, 1, 20, 20], logits[0][0, 1, 20, 21] = 25.0, 30.0
    cfg = copy.deepcopy(head.test_cfg)
    cfg.max_per_img = 1
    (found,) = head.predict_by_feat(
        [x.bfloat16() for x in logits],
        [x.bfloat16() for x in deltas],
        batch_img_metas=[dict(img_shape=(SIDE, SIDE))],
        cfg=cfg,
    )
    assert found.bboxes.tolist() == [[21 * 4 - 16, 20 * 4 - 16, 21 * 4 + 16, 20 * 4 + 16]]


@pytest.mark.parametrize("training", [True, False])
def test_layers_in_bfloat16_hand_on_float32(head: nn.Module, training: bool) -> None:
    """Through the public calls: what the layers give is decoded as it is."""
    features = tuple(torch.randn(2, 16, *grid) for grid in grids(head))
    samples = [sample([[10, 10, 90, 70]]), sample([])]
    with torch.autocast("cpu", torch.bfloat16):
        raw = head(features)
        if training:
            losses, found = head.loss_and_predict(features, samples, head.test_cfg)
        else:
            losses, found = {}, head.predict(features, samples)
    assert raw[0][0].dtype == torch.bfloat16
    metas = [data.metainfo for data in samples]
    exact = head.predict_by_feat(*[[x.float() for x in part] for part in raw], None, metas)
    for one, other in zip(found, exact, strict=True):
        assert one.bboxes.dtype == torch.float32
        assert torch.equal(one.bboxes, other.bboxes) and torch.equal(one.scores, other.scores)
    assert all(loss.dtype == torch.float32 for part in losses.values() for loss in part)


def test_losses_are_those_of_the_same_outputs_in_float32(head: nn.Module) -> None:
    logits, deltas = outputs(head, -8, 8, spread=1.0, batch=2)
    samples = [sample([[10, 10, 90, 70], [30, 5, 200, 220]]), sample([[100, 100, 140, 190]])]
    inputs = [data.gt_instances for data in samples], [data.metainfo for data in samples]
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.loss_by_feat(logits, deltas, *inputs)
    torch.manual_seed(3)
    exact = head.loss_by_feat([x.float() for x in logits], [x.float() for x in deltas], *inputs)
    for name in ("loss_rpn_cls", "loss_rpn_bbox"):
        for one, other in zip(found[name], exact[name], strict=True):
            assert one.dtype == torch.float32 and torch.equal(one, other)


@pytest.mark.parametrize(
    "nms",
    [
        dict(type="soft_nms", iou_threshold=0.6, method="linear", max_num=50),
        dict(type="nms", iou_threshold=0.7, score_threshold=0.5),
    ],
)
def test_an_nms_that_computes_with_scores_gets_probabilities(
    head: nn.Module, nms: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor] = []
    original = rpn_head.batched_nms

    def recording(boxes: Tensor, scores: Tensor, *args: object) -> tuple[Tensor, Tensor]:
        given.append(scores)
        return original(boxes, scores, *args)

    monkeypatch.setattr(rpn_head, "batched_nms", recording)
    logits, deltas = outputs(head, -3, 3)
    cfg = copy.deepcopy(head.test_cfg)
    cfg.nms = nms
    metas = [dict(img_shape=(SIDE, SIDE))]
    (found,) = head.predict_by_feat(logits, deltas, batch_img_metas=metas, cfg=cfg)
    assert given[0].min() > 0 and given[0].max() < 1
    assert len(found) and (found.scores.diff() <= 0).all()
    if nms["type"] == "nms":
        assert found.scores.min() > 0.5


def test_two_scores_an_anchor_rank_by_their_difference() -> None:
    head = build(loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False))
    logits = [torch.randn(1, 6, *grid) * 9 for grid in grids(head)]
    deltas = [torch.zeros(1, 12, *grid) for grid in grids(head)]
    cfg = copy.deepcopy(head.test_cfg)
    cfg.max_per_img = 1
    metas = [dict(img_shape=(SIDE, SIDE))]
    (found,) = head.predict_by_feat(logits, deltas, batch_img_metas=metas, cfg=cfg)
    pairs = torch.cat(rows(logits, 2))
    assert found.scores.item() == (pairs[:, 0] - pairs[:, 1]).max().item()
