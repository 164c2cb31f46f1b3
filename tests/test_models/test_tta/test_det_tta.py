"""Views of a detector's test: against plain loops, against the detector alone, and what is held."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmbeit3 import accelerate
from mmbeit3.config.loading import load_config
from mmbeit3.models import DetTTAModel
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "beit3_vitdet"
META = ("img_id", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
PLAIN = (None,)
HARD_NMS = dict(type="nms", iou_threshold=0.5)


def build(
    with_mask: bool = True, class_agnostic: bool = True, nms: dict | None = None
) -> nn.Module:
    """A tiny detector of random weights whose scores, boxes and masks differ from each other."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = load_config(CONFIGS / "cascade-mask-rcnn_beit3-tiny_shapes.py").model
    cfg.backbone.arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    cfg.neck.in_channels = 32
    cfg.roi_head.mask_head.class_agnostic = class_agnostic
    cfg.test_cfg.rpn.update(nms_pre=30, max_per_img=20)
    cfg.test_cfg.rcnn.max_per_img = 10
    if nms:
        cfg.test_cfg.rcnn.nms = nms
        cfg.test_cfg.rcnn.score_thr = 0.05
    if not with_mask:
        cfg.roi_head.update(mask_head=None, mask_roi_extractor=None)
    model = MODELS.build(cfg)
    model.init_weights()
    for head in model.roi_head.bbox_head:
        nn.init.normal_(head.fc_cls.weight, std=0.5)
        nn.init.normal_(head.fc_reg.weight, std=0.05)
    return model.eval()


def noise(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def batch(
    images: Sequence[np.ndarray],
    scales: Sequence[tuple[int, int]],
    flips: Sequence[str | None] = PLAIN,
    meta_keys: Sequence[str] = META,
) -> dict:
    """Images as mmcv's TestTimeAug and mmengine's loader hand them over."""
    init_default_scope("mmdet")
    resizes = [dict(type="Resize", scale=scale, keep_ratio=True) for scale in scales]
    turns = [
        dict(type="RandomFlip", prob=float(flip is not None), direction=flip or "horizontal")
        for flip in flips
    ]
    packed = [dict(type="PackDetInputs", meta_keys=meta_keys)]
    pipeline = Compose([dict(type="TestTimeAug", transforms=[resizes, turns, packed])])
    infos = [
        dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], img_id=number)
        for number, image in enumerate(images)
    ]
    return pseudo_collate([pipeline(info) for info in infos])


# ------------------------------------------------------------------ plain loops

AXES = {None: (), "horizontal": (0,), "vertical": (1,), "diagonal": (0, 1)}


def to_image(boxes: np.ndarray, sample: DetDataSample) -> np.ndarray:
    """Boxes of a view in pixels of the image as read, in float64."""
    boxes = boxes.astype(np.float64)
    for axis in AXES[sample.flip_direction]:
        size = sample.img_shape[1 - axis]
        boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]
    for axis in (0, 1):
        boxes[:, [axis, axis + 2]] *= (
            sample.ori_shape[1 - axis] / sample.img_shape[1 - axis]  # not the noted factor
        )
    return boxes


def to_view(boxes: np.ndarray, sample: DetDataSample) -> Tensor:
    boxes = boxes.copy()
    for axis in (0, 1):
        size = sample.img_shape[1 - axis]
        boxes[:, [axis, axis + 2]] *= size / sample.ori_shape[1 - axis]
        if axis in AXES[sample.flip_direction]:
            boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]
    return torch.from_numpy(boxes).float()


def soft_nms_by_hand(boxes: np.ndarray, scores: np.ndarray, limit: int) -> list[tuple]:
    """Best first, each lowering those of its class that it overlaps by 0.6: (score, label, box)."""
    scores, kept = scores.copy(), []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(kept) < limit:
        best, label = np.unravel_index(scores.argmax(), scores.shape)
        kept.append((scores[best, label], label, boxes[best]))
        low, high = np.maximum(boxes[:, :2], boxes[best, :2]), np.minimum(boxes, boxes[best])
        shared = (high[:, 2:] - low).clip(min=0).prod(axis=1)
        iou = shared / (areas + areas[best] - shared)
        scores[:, label] *= np.where(iou >= 0.6, 1 - iou, 1)
        scores[best, label] = 0
    return kept


def merged_by_hand(model: nn.Module, data: dict, number: int) -> tuple[list[tuple], Tensor]:
    """Every view by itself: merged boxes in the image, and the mean of masks enlarged to it."""
    views = []
    for index in range(len(data["inputs"])):
        view = {key: values[index] for key, values in data.items()}
        view = model.data_preprocessor(view, False)
        views.append((model.extract_feat(view["inputs"]), view["data_samples"]))
    boxes, scores = [], []
    for levels, samples in views:
        proposals = model.rpn_head.predict(levels, samples, rescale=False)
        metas = [sample.metainfo for sample in samples]
        found = model.roi_head.predict_bbox(levels, metas, proposals, None)[number]
        boxes.append(to_image(found.bboxes.numpy(), samples[number]))
        scores.append(found.scores[:, :-1].double().numpy())
    kept = soft_nms_by_hand(np.concatenate(boxes), np.concatenate(scores), 10)
    total = 0.0
    for levels, samples in views:
        sample = samples[number]
        boxes = np.array([box for _, _, box in kept])
        rois = torch.cat((torch.full((len(kept), 1), float(number)), to_view(boxes, sample)), 1)
        logits = model.roi_head._mask_forward(levels, rois)
        logits = torch.stack(
            [
                maps[0 if len(maps) == 1 else label]
                for maps, (_, label, _) in zip(logits, kept, strict=True)
            ]
        )
        masks = torch.sigmoid(logits)
        masks = masks.flip([2 - axis for axis in AXES[sample.flip_direction]])
        total = total + enlarged(masks, boxes, sample.ori_shape)
    return kept, total / len(views)


def enlarged(masks: Tensor, boxes: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Masks (N, h, w) at the size of the image: for each pixel where its center is in the mask."""
    height, width = size
    out = torch.zeros(len(masks), height, width, dtype=torch.float64)
    for mask, (x1, y1, x2, y2), target in zip(masks.double(), boxes, out, strict=True):
        xs = (torch.arange(width, dtype=torch.float64) + 0.5 - x1) / (x2 - x1) * 2 - 1
        ys = (torch.arange(height, dtype=torch.float64) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)[None]
        target.copy_(nn.functional.grid_sample(mask[None, None], grid, align_corners=False)[0, 0])
    return out


@torch.no_grad()
@pytest.mark.parametrize(
    ("scales", "flips", "class_agnostic"),
    [
        ([(64, 64), (75, 75), (131, 131)], [None, "horizontal"], True),
        ([(97, 97)], [None, "vertical", "diagonal"], False),
        ([(120, 50), (61, 99)], ["horizontal"], False),
    ],
)
def test_boxes_and_masks_are_those_of_plain_loops(
    scales: list, flips: list, class_agnostic: bool
) -> None:
    model = build(class_agnostic=class_agnostic)
    images = noise((90, 61), (47, 120))
    data = batch(images, scales, flips)
    want = [merged_by_hand(model, data, number) for number in range(2)]
    for number, sample in enumerate(DetTTAModel(model).test_step(data)):
        kept, mean = want[number]
        found = sample.pred_instances
        assert sample.ori_shape == images[number].shape[:2] and sample.img_id == number
        assert len(found) == len(kept) == 10
        assert found.labels.tolist() == [label for _, label, _ in kept]
        np.testing.assert_allclose(found.scores, [score for score, _, _ in kept], rtol=1e-4)
        np.testing.assert_allclose(found.bboxes, [box for _, _, box in kept], atol=2e-3)
        decided = (mean - 0.5).abs() > 1e-4
        assert decided.double().mean() > 0.95 and found.masks.shape == mean.shape
        assert torch.equal(found.masks[decided], (mean >= 0.5)[decided])
        assert 0 < (found.masks.double().mean()) < 1


# ------------------------------------------------------------------ the detector alone


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (dict(), None),
        (dict(), "bfloat16"),
        (dict(class_agnostic=False, nms=HARD_NMS), None),
        (dict(class_agnostic=False, nms=HARD_NMS), "float32"),
        (dict(with_mask=False), "float32"),
        (dict(with_mask=False, nms=HARD_NMS), None),
    ],
)
def test_one_view_is_the_plain_test_bit_for_bit(kind: dict, dtype: str | None) -> None:
    model = build(**kind)
    wrapped = DetTTAModel(model)
    if dtype is not None:
        accelerate(wrapped, dtype, force=True)
        accelerate(model, dtype, force=True)
    for images in (noise((90, 61)), noise((90, 61), (47, 120), (33, 33))):
        data = batch(images, [(101, 101)])
        plain = model.test_step({key: views[0] for key, views in data.items()})
        for found, want in zip(wrapped.test_step(data), plain, strict=True):
            found, want = found.pred_instances, want.pred_instances
            assert len(found) > 3 and found.keys() == want.keys()
            assert all(torch.equal(found[key], want[key]) for key in want.keys())  # noqa: SIM118


def mirrored(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=1)


@torch.no_grad()
def test_the_mirrored_image_gives_the_mirrored_result() -> None:
    wrapped = DetTTAModel(build())
    (image,) = noise((88, 61))
    flips = [None, "horizontal"]
    plain, turned = (
        wrapped.test_step(batch([pixels], [(61, 88)], flips))[0].pred_instances
        for pixels in (image, image[:, ::-1].copy())
    )
    assert torch.equal(plain.labels, turned.labels) and len(plain) == 10
    torch.testing.assert_close(plain.scores, turned.scores)
    torch.testing.assert_close(plain.bboxes, mirrored(turned.bboxes, 61), rtol=0, atol=1e-3)
    assert (plain.masks == turned.masks.flip(2)).double().mean() > 0.9999


@torch.no_grad()
def test_a_symmetric_image_gives_a_symmetric_result() -> None:
    model = build(nms=dict(type="nms", iou_threshold=1.0))  # which leaves every box
    model.roi_head.test_cfg.max_per_img = -1
    (half,) = noise((72, 40))
    image = np.concatenate((half, half[:, ::-1]), axis=1)
    data = batch([image], [(80, 72)], [None, "horizontal"])
    found = DetTTAModel(model).test_step(data)[0].pred_instances
    alone = model.test_step({key: views[0] for key, views in data.items()})[0].pred_instances
    assert len(found) == 2 * len(alone) > 20
    distances = torch.cdist(found.bboxes, mirrored(found.bboxes, 80), p=1)
    distances += 1000 * (found.labels[:, None] != found.labels)
    nearest, partner = distances.min(dim=1)
    assert nearest.max() < 1e-3
    torch.testing.assert_close(found.scores, found.scores[partner])
    assert (found.masks == found.masks[partner].flip(2)).double().mean() > 0.9999


# ------------------------------------------------------------------ what is held


@torch.no_grad()
@pytest.mark.parametrize("with_mask", [True, False])
def test_the_features_of_one_view_are_held_at_a_time(with_mask: bool) -> None:
    model = build(with_mask)
    given, held, extract = [], [], model.extract_feat

    def counted(inputs: Tensor) -> tuple[Tensor, ...]:
        held.append(sum(level() is not None for level in given))
        levels = extract(inputs)
        given.extend(weakref.ref(level) for level in levels)
        return levels

    model.extract_feat = counted
    scales = [(side, side) for side in (40, 51, 64)]
    DetTTAModel(model).test_step(batch(noise((50, 70), (40, 40)), scales, [None, "horizontal"]))
    assert held == [0] * (11 if with_mask else 6)  # the features of the last view serve twice


# ------------------------------------------------------------------ nothing, and what is refused


@torch.no_grad()
@pytest.mark.parametrize("with_mask", [True, False])
def test_images_in_which_nothing_is_found(with_mask: bool) -> None:
    model = build(with_mask)
    data = batch(noise((90, 61), (47, 120)), [(64, 64), (80, 80)])
    best = [sample.pred_instances.scores.max() for sample in DetTTAModel(model).test_step(data)]
    for threshold in (sum(best) / 2, 1.0):
        model.roi_head.test_cfg.score_thr = float(threshold)
        for sample, score in zip(DetTTAModel(model).test_step(data), best, strict=True):
            found = sample.pred_instances
            assert (len(found) > 0) == bool(score > threshold)
            if with_mask:
                assert found.masks.shape == (len(found), *sample.ori_shape)


def test_another_roi_head_is_refused() -> None:
    model = build()
    model.roi_head = nn.Identity()
    with pytest.raises(InputError, match=r"with the RoI head Identity; expected mmbeit3.ViTDet"):
        DetTTAModel(model)


def test_views_that_do_not_say_whether_they_are_flipped_are_refused() -> None:
    data = batch(noise((40, 40)), [(64, 64)], [None, "horizontal"], META[:-2])
    with pytest.raises(InputError, match=r"no 'flip'; expected it and 'flip_direction' in meta_k"):
        DetTTAModel(build()).test_step(data)
