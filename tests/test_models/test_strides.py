"""Heads that expect other strides than backbone and neck give are refused when a model is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmbeit3.engine import Runner
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTOR = "beit3_vitdet/cascade-mask-rcnn_beit3-base_lsj-1024_coco"
BOXES_ONLY = "beit3_vitdet/cascade-rcnn_beit3-base_lsj-1024_objects365"
TINY = "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes"
SEGMENTOR = "beit3_mask2former/mask2former_beit3-base_512_ade20k"
ADAPTER = "beit3_mask2former/mask2former_beit3-base-adapter_896_ade20k"

RPN = "rpn_head.anchor_generator.strides"
BOXES = "roi_head.bbox_roi_extractor.featmap_strides"
MASKS = "roi_head.mask_roi_extractor.featmap_strides"
PATCHES_OF_14 = {
    "backbone.patch_size": 14,
    RPN: [3.5, 7, 14, 28, 56],
    BOXES: [3.5, 7, 14, 28],
    MASKS: [3.5, 7, 14, 28],
}


def config(name: str, changes: dict) -> Config:
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    init_default_scope(cfg.default_scope)
    return cfg


def build(name: str, changes: dict) -> nn.Module:
    with torch.device("meta"):
        return MODELS.build(config(name, changes).model)


# Those of models that have maps.
DENSE = [
    *sorted(CONFIGS.glob("beit3_vitdet/*.py")),
    *sorted(CONFIGS.glob("beit3_mask2former/*.py")),
]


@pytest.mark.parametrize("path", DENSE, ids=lambda path: path.stem)
def test_every_config_builds(path: Path) -> None:
    build(str(path.relative_to(CONFIGS).with_suffix("")), {})


@pytest.mark.parametrize(
    ("name", "changes", "found", "cures"),
    [
        (
            DETECTOR,
            {"backbone.patch_size": 14},
            "3.5, 7, 14, 28, 56 (patch_size 14",
            ["backbone.patch_size=16, or ", *(f"{k}={PATCHES_OF_14[k]}" for k in (RPN, BOXES))],
        ),
        (BOXES_ONLY, {"backbone.patch_size": 32}, "8, 16, 32, 64, 128", [f"{BOXES}=[8, 16, 32,"]),
        (DETECTOR, {**PATCHES_OF_14, MASKS: [4, 8, 16, 32]}, "3.5, 7", [f"{MASKS}=[3.5, 7,"]),
        (DETECTOR, {"neck.num_outs": 4}, "4, 8, 16, 32 (", [f"Set model.{RPN}=[4, 8, 16, 32]"]),
        (
            DETECTOR,
            {"neck.scale_factors": [2, 1, 0.5], "neck.num_outs": 4},
            "8, 16, 32, 64",
            [f"Set model.{RPN}=[8, 16, 32, 64] and model.{BOXES}=[8, 16, 32, 64]"],
        ),
        (DETECTOR, {RPN: [8, 16, 32, 64, 128]}, "4, 8, 16", [f"Set model.{RPN}=[4, 8, 16, 32,"]),
        (TINY, {"backbone.patch_size": 16}, "8, 16, 32, 64", ["backbone.patch_size=8, or "]),
        (TINY, {"neck.scale_factors": [4, 2, 1, 0.5]}, "2, 4, 8, 16", [f"{BOXES}=[2, 4]"]),
        (TINY, {"neck.scale_factors": [1, 0.5]}, "8, 16, 32, 64", [f"{MASKS}=[8, 16]"]),
        (
            SEGMENTOR,
            {"backbone.patch_size": 14},
            "3.5, 7, 14, 28",
            ["backbone.patch_size=16, or model.neck.scale_factors so that the first"],
        ),
        (
            SEGMENTOR,
            {"backbone.patch_size": 8},
            "2, 4, 8, 16",
            ["patch_size=16", "decode_head.strides=[2, 4, 8, 16]"],
        ),
        (ADAPTER, {"decode_head.strides": [8, 16, 32, 64]}, "4, 8, 16, 32", ["Set model.decode_"]),
    ],
)  # fmt: skip
def test_other_strides_are_refused(name: str, changes: dict, found: str, cures: list[str]) -> None:
    with pytest.raises(InputError, match=f"have the strides {re.escape(found)}") as error:
        build(name, changes)
    for cure in cures:
        assert cure in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (DETECTOR, PATCHES_OF_14),
        (
            DETECTOR,
            {"backbone.patch_size": 32, RPN: [8, 16, 32, 64, 128], BOXES: [8, 16], MASKS: [8, 16]},
        ),
        (
            SEGMENTOR,
            {
                "backbone.patch_size": 14,
                "neck.scale_factors": [2, 1, 0.5],
                "decode_head.strides": [7, 14, 28, 56],
            },
        ),
        (ADAPTER, {"backbone.patch_size": 14}),  # its maps have the same strides for any patch
    ],
)
def test_strides_that_agree_are_taken(name: str, changes: dict) -> None:
    build(name, changes)


def test_masks_are_enlarged_by_whole_numbers() -> None:
    with pytest.raises(InputError, match=r"starts with 3\.5"):
        build(SEGMENTOR, {"backbone.patch_size": 14, "decode_head.strides": [3.5, 7, 14, 28]})


@pytest.mark.parametrize("kind", ["CascadeRCNN", "mmdet.CascadeRCNN"])
def test_our_runner_asks_the_detectors_of_mmdet_too(kind: str) -> None:
    cfg = config(TINY, {"type": kind, "backbone.patch_size": 16})
    with pytest.raises(InputError, match="have the strides 8, 16, 32, 64"), torch.device("meta"):
        Runner.build_model(Runner.__new__(Runner), cfg.model)


def test_patches_of_14_with_strides_to_match_train_and_find() -> None:
    """The strides that the message tells work, fractions among them."""
    changes = {
        "neck.in_channels": 32,
        "backbone.img_size": 112,
        "backbone.patch_size": 14,
        "neck.scale_factors": [4, 2, 1],
        RPN: [3.5, 7, 14, 28],
        BOXES: [3.5, 7],
        MASKS: [3.5, 7],
    }
    cfg = config(TINY, changes).model
    cfg.backbone.arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    size = (120, 100)  # no whole patches
    sample = DetDataSample(
        metainfo=dict(img_shape=size, pad_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 12, 60, 70]]), labels=torch.tensor([1])
    )
    model.roi_head.mask_head = None
    losses = model.loss(torch.randn(1, 3, *size), [sample])
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    model.eval()
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(1, 3, *size))
        (proposals,) = model.rpn_head.predict(maps, [sample])
    for level, stride in zip(maps, (3.5, 7, 14, 28), strict=True):
        # ceil(120 / 14) and ceil(100 / 14) patches
        assert level.shape[2:] == (-(-9 * 14 // stride), -(-8 * 14 // stride))
    assert proposals.bboxes[:, 0::2].max() <= 100 and proposals.bboxes[:, 1::2].max() <= 120
