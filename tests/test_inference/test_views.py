"""Models that see several views of an image: what they find, in memory and over a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import nn

import mmbeit3
from mmbeit3.config.loading import load_config
from mmbeit3.inference.folder import infer_folder
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIZES = ((90, 61), (61, 90), (90, 61))
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def tiny(task: str) -> tuple[Config, nn.Module]:
    """A config with a tiny tower, and its model of random weights."""
    name = {
        "detection": "beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py",
        "segmentation": "beit3_mask2former/mask2former_beit3-tiny_shapes.py",
    }[task]
    cfg = load_config(CONFIGS / name)
    cfg.model.backbone.arch = ARCH
    cfg.model.neck.in_channels = 32
    if task == "detection":
        cfg.model.test_cfg.rpn.update(nms_pre=20, max_per_img=10)
        cfg.model.test_cfg.rcnn.max_per_img = 5
    init_default_scope(cfg.default_scope)
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if task == "detection":
        for head in model.roi_head.bbox_head:
            nn.init.normal_(head.fc_cls.weight, std=0.5)
    else:
        for part in ("cls_embed", "query_feat", "mask_embed.4"):
            nn.init.normal_(model.decode_head.get_submodule(part).weight, std=1.0)
    return cfg, model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (4, 3, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f"{number}.png")
    return folder


def checkpoint_of(cfg: Config, model: nn.Module, file: Path) -> Path:
    classes = ("disk", "square", "triangle", "star", "ring")
    if cfg.default_scope == "mmseg":
        classes = ("background", *classes)
    meta = {"dataset_meta": {"classes": classes}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, file)
    return file


@torch.no_grad()
@pytest.mark.parametrize(
    ("task", "views", "key"),
    [
        ("detection", "flip", "tta_pipeline_flip"),
        ("detection", "multi-scale", "tta_pipeline"),
        ("segmentation", "multi-scale", "tta_pipeline"),
    ],
)
def test_a_model_finds_what_the_augmented_test_does(
    folder: Path, tmp_path: Path, task: str, views: str, key: str
) -> None:
    cfg, network = tiny(task)
    checkpoint = checkpoint_of(cfg, network, tmp_path / "weights.pth")
    model = mmbeit3.load(cfg, checkpoint, device="cpu", tta=views)
    found = model(folder, batch_size=3)  # of which two have one size

    read, augment = cfg[key]
    augment.transforms = [step for step in augment.transforms if "Load" not in step[0].type]
    init_default_scope(cfg.default_scope)
    pipeline = Compose([read, augment])
    merging = MODELS.build({**cfg.tta_model, "module": network})
    for number, result in enumerate(found):
        info = dict(img_path=str(folder / f"{number}.png"), img_id=number)
        [want] = merging.test_step(pseudo_collate([pipeline(info)]))
        assert result.error is None
        if task == "segmentation":
            same = result.label_map == want.pred_sem_seg.data[0].numpy()
            assert same.mean() > 0.999
            continue
        want = want.pred_instances
        np.testing.assert_allclose(result.scores, want.scores, rtol=1e-3)
        np.testing.assert_allclose(result.boxes, want.bboxes, atol=0.01)
        assert (result.masks == want.masks.numpy()).mean() > 0.999

    alone = model(folder / "1.png")
    if task == "detection":
        np.testing.assert_allclose(alone.boxes, found[1].boxes, atol=0.01)
        np.testing.assert_allclose(
            model.attention(folder / "1.png").weights,
            mmbeit3.load(cfg, checkpoint, device="cpu").attention(folder / "1.png").weights,
        )


def test_a_run_over_a_folder_writes_it(folder: Path, tmp_path: Path) -> None:
    cfg, network = tiny("detection")
    checkpoint = checkpoint_of(cfg, network, tmp_path / "weights.pth")
    out = tmp_path / "out"
    summary = infer_folder(cfg, checkpoint, folder, out, device="cpu", tta="flip")
    assert summary["tta"] == "flip" and summary["num_done"] == 3 and not summary["failed"]
    written = json.loads((out / "results.json").read_text())
    model = mmbeit3.load(cfg, checkpoint, device="cpu", tta="flip")
    want = [entry for number, one in enumerate(model(folder), 1) for entry in one.to_coco(number)]
    assert [entry["score"] for entry in written] == pytest.approx([one["score"] for one in want])
    assert len(list((out / "overlays").iterdir())) == 3


def test_what_has_no_views_is_refused_before_the_weights_are_read(color_cfg, seg_cfg) -> None:
    for cfg in (color_cfg, seg_cfg):
        with pytest.raises(InputError, match=r"tta: flip: the config has no tta_pipeline_flip; "):
            mmbeit3.load(cfg, "absent.pth", tta="flip")
    cfg = load_config(CONFIGS / "beit3_retrieval" / "beit3-tiny-retrieval_128_shapes.py")
    with pytest.raises(InputError, match=r"and no tta_model; .* of detectors and segmentors, so "):
        mmbeit3.load(cfg, "absent.pth", tta="flip")
