"""Objects365 and what follows it: Table 16, the way from one stage to the next, boxes only."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

from mmbeit3.checkpoint import load_weights
from mmbeit3.datasets import CocoDataset
from mmbeit3.registry import MODELS

ROOT = Path(__file__).resolve().parents[2] / "configs"
SIZES = ("base", "large", "giant")
# Images of the archives (ultralytics/yolov5#5194) and of v1's file
NUM_IMAGES = {"v1": 608606, "v2": 1742289}


def first_stage(size: str) -> Config:
    name = f"cascade-rcnn_beit3-{size}_lsj-1024_objects365"
    return Config.fromfile(ROOT / f"beit3_vitdet/{name}.py")


def second_stage(size: str) -> Config:
    return coco(f"{size}_soft-nms-1280_objects365")


def coco(name: str) -> Config:
    return Config.fromfile(ROOT / f"beit3_vitdet/cascade-mask-rcnn_beit3-{name}_coco.py")


def test_table_16_values() -> None:
    cfg = first_stage("giant")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.eps, optimizer.betas) == (1e-4, 1e-8, (0.9, 0.999))
    assert optimizer.weight_decay == 0.1
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay_rate=0.9)
    assert cfg.model.backbone.drop_path_rate == 0.6
    linear, steps = cfg.param_scheduler
    assert (linear.end, steps.gamma) == (250, 0.1)
    assert cfg.train_cfg.max_iters == steps.end == math.ceil(15 * NUM_IMAGES["v2"] / 64)
    assert steps.milestones == [round(steps.end * 8 / 9), round(steps.end * 26 / 27)]
    (resize,) = (t for t in cfg.train_pipeline if t.type == "RandomResize")
    assert (resize.scale, resize.ratio_range) == ((1024, 1024), (0.1, 2.0))
    assert cfg.auto_scale_lr.base_batch_size == 64 == 8 * cfg.train_dataloader.batch_size


def test_iterations_of_v1_are_those_in_the_schedule() -> None:
    text = (ROOT / "_base_/schedules/beit3_objects365_15e.py").read_text(encoding="utf-8")
    iterations = math.ceil(15 * NUM_IMAGES["v1"] / 64)
    for number in (iterations, round(iterations * 8 / 9), round(iterations * 26 / 27)):
        assert f"{number:,}" in text


@pytest.mark.parametrize("size", SIZES)
def test_sizes_differ_as_those_of_the_coco_configs_do(size: str) -> None:
    alone, first, second = coco(f"{size}_soft-nms-1280"), first_stage(size), second_stage(size)
    assert first.model.backbone == alone.model.backbone
    assert first.model.neck == alone.model.neck and first.model.rpn_head == alone.model.rpn_head
    assert first.optim_wrapper.paramwise_cfg == alone.optim_wrapper.paramwise_cfg
    assert second.optim_wrapper == alone.optim_wrapper
    assert second.train_cfg == alone.train_cfg and second.param_scheduler == alone.param_scheduler
    alone.model.backbone.init_cfg = None
    assert second.model == alone.model


@pytest.mark.parametrize("size", SIZES)
def test_coco_goes_on_where_objects365_ends_and_averages(size: str) -> None:
    first, second = first_stage(size), second_stage(size)
    # where tools/train.py leaves it
    folder = Path(first.filename).stem
    assert second.load_from == f"work_dirs/{folder}/iter_{first.train_cfg.max_iters}.pth"
    assert second.model.backbone.init_cfg is None
    assert second.custom_hooks == [dict(type="mmbeit3.EMAHook", momentum=0.0001)]
    assert first.get("custom_hooks") is None and first.load_from is None


def test_v1_is_one_line_away() -> None:
    folder = ROOT / "_base_/datasets"
    v1, v2 = (Config.fromfile(folder / f"objects365{v}_lsj-1024.py") for v in ("v1", "v2"))
    assert "objects365v2" not in v1.pretty_text
    text = v2.pretty_text.replace("data/objects365v2/", "data/objects365v1/")
    assert v1.pretty_text == text


def small(cfg: ConfigDict) -> nn.Module:
    """The detector with every width cut down."""
    init_default_scope("mmdet")
    cfg.backbone.arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    cfg.backbone.init_cfg = None
    cfg.neck.update(in_channels=32, out_channels=16)
    cfg.rpn_head.update(in_channels=16, feat_channels=16)
    roi = cfg.roi_head
    for head in roi.bbox_head:
        head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    roi.bbox_roi_extractor.out_channels = 16
    if roi.mask_head:
        roi.mask_head.update(in_channels=16, conv_out_channels=16)
        roi.mask_roi_extractor.out_channels = 16
    cfg.data_preprocessor.batch_augments[0].size = (128, 128)
    return MODELS.build(cfg)


def test_all_but_the_classes_and_the_masks_is_taken_over() -> None:
    torch.manual_seed(0)
    first, second = small(first_stage("base").model), small(second_stage("base").model)
    state = {name: torch.rand_like(value) for name, value in first.state_dict().items()}
    report = load_weights(second, {"state_dict": state}, strict=False)
    classes = {
        f"roi_head.bbox_head.{stage}.fc_cls.{part}"
        for stage in range(3)
        for part in ("weight", "bias")
    }
    masks = {name for name in second.state_dict() if name.startswith("roi_head.mask_head.")}
    assert masks and set(report.matched) == set(second.state_dict()) - classes - masks
    for name in report.matched:
        assert torch.equal(second.state_dict()[name], state[name]), name
    head = second.roi_head.bbox_head[0]
    assert head.fc_cls.out_features == 81 and head.fc_reg.out_features == 4


def test_boxes_alone_train_and_are_found() -> None:
    torch.manual_seed(0)
    model = small(first_stage("base").model)
    sample = DetDataSample(
        metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes([[10.0, 10.0, 70.0, 80.0]]), labels=torch.tensor([364])
    )
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), training=True)
    losses = model(**data, mode="loss")
    assert data["inputs"].shape[-2:] == (128, 128)
    assert not [name for name in losses if "mask" in name]
    sum(sum(value) if isinstance(value, list) else value for value in losses.values()).backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    (result,) = model.eval().test_step(dict(inputs=[image], data_samples=[sample]))
    assert "masks" not in result.pred_instances


def test_training_data_have_boxes_of_the_crop_and_no_masks(tmp_path: Path) -> None:
    init_default_scope("mmdet")
    (tmp_path / "train").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train/a.jpg")
    boxes = [[10, 20, 100, 150], [0, 0, 400, 300], [390, 290, 10, 10]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 300}],
        "categories": [{"id": 7, "name": "Person"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7, "bbox": box, "area": box[2] * box[3]}
            for i, box in enumerate(boxes)
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    cfg = first_stage("base")
    dataset = CocoDataset(
        data_root=str(tmp_path),
        ann_file="train.json",
        data_prefix=dict(img="train/"),
        pipeline=cfg.train_dataloader.dataset.pipeline,
    )
    numbers = set()
    for _ in range(8):
        packed = dataset[0]
        height, width = packed["inputs"].shape[1:]
        assert height <= 1024 and width <= 1024
        instances = packed["data_samples"].gt_instances
        corners = instances.bboxes.tensor
        assert "masks" not in instances
        assert (corners >= 0).all() and (corners[:, 2] <= width).all()
        assert (corners[:, 3] <= height).all()
        numbers.add((height, width, len(instances)))
    assert len(numbers) > 1
