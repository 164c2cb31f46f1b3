"""A real segmentor of mmseg on BEiT-3: what is written is what mmseg's own inference returns."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.apis import inference_model
from mmseg.datasets import ADE20KDataset
from PIL import Image

from mmbeit3.inference.folder import infer_folder
from mmbeit3.inference.segmentor import Segmentor

TEST_CFGS = [dict(mode="whole"), dict(mode="slide", crop_size=(96, 96), stride=(64, 64))]


@pytest.fixture
def cfg() -> Config:
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(224, 112), keep_ratio=True),
        dict(type="LoadAnnotations"),
        dict(type="PackSegInputs"),
    ]
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor", mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True
        ),
        backbone=dict(type="mmbeit3.BEiT3", arch="tiny", img_size=96, window_size=0),
        decode_head=dict(
            type="FCNHead",
            in_channels=192,
            in_index=0,
            channels=32,
            num_convs=1,
            num_classes=150,
            norm_cfg=dict(type="SyncBN"),
            align_corners=False,
        ),
        train_cfg=dict(),
        test_cfg=dict(mode="whole"),
    )
    dataset = dict(type="ADE20KDataset", data_root="absent", pipeline=pipeline)
    return Config(
        dict(
            default_scope="mmseg",
            model=model,
            test_pipeline=pipeline,
            test_dataloader=dict(batch_size=2, dataset=dataset),
        )
    )


@pytest.fixture
def checkpoint(tmp_path: Path, cfg: Config) -> Path:
    """Random weights alone, strong enough for several classes in a picture."""
    torch.manual_seed(0)
    init_default_scope("mmseg")
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.1)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "random.pth")
    return tmp_path / "random.pth"


@pytest.fixture
def folder(tmp_path: Path, data_root: Path) -> Path:
    """Two photographs of different sizes, as PNG: decoders of JPEG differ by a gray level."""
    photos = data_root / "ade20k_sample" / "images" / "validation"
    for name in ("ADE_val_00000001", "ADE_val_00000003"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        image = cv2.imread(str(photos / f"{name}.jpg"))
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), image)
    return tmp_path / "photos"


@pytest.mark.parametrize("test_cfg", TEST_CFGS, ids=lambda test_cfg: test_cfg["mode"])
@pytest.mark.parametrize("segmentor", ["EncoderDecoder", "mmbeit3.EncoderDecoder"])
def test_labels_are_those_of_mmseg(tmp_path, cfg, checkpoint, folder, segmentor, test_cfg):
    cfg.model.update(type=segmentor, test_cfg=test_cfg)
    infer_folder(cfg, checkpoint, folder, tmp_path / "out", device="cpu")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    cfg.model.type = "EncoderDecoder"
    model = Segmentor(cfg, checkpoint, "cpu").model
    model.cfg = cfg
    for image in summary["images"]:
        labels = np.asarray(Image.open(tmp_path / "out" / image["label"]))
        assert labels.shape == (image["height"], image["width"])
        expected = inference_model(model, str(folder / image["file_name"])).pred_sem_seg.data[0]
        # Ours rounds in another order, which may decide between classes that score the same.
        assert np.mean(labels != expected.numpy()) <= (1e-4 if "." in segmentor else 0)
        counts = np.bincount(labels.flatten(), minlength=150) / labels.size
        assert (counts > 0.02).sum() > 3
        classes = [name.strip() for name in ADE20KDataset.METAINFO["classes"]]
        shares = {classes[i]: round(counts[i], 6) for i in range(150) if counts[i]}
        assert image["shares"] == pytest.approx(shares, abs=1e-6)
