"""Every config: it builds from any folder, says what it is, and carries the recipe's numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_vitdet"
CONFIGS = sorted(FOLDER.glob("*.py"))
NAME = "cascade-mask-rcnn_beit3-{}_coco.py"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_from_another_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmdet")
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert len(model.roi_head.bbox_head) == 3
    channels = cfg.model.neck.in_channels
    assert model.backbone.embed_dims == channels


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_head_says_what_it_reproduces_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head
    assert "Run:" in head or "run:" in head
    assert path.name in head


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_augmented_tests_prepare_images_as_the_plain_test_does(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.tta_model.type == "mmbeit3.DetTTAModel"
    for name in ("tta_pipeline", "tta_pipeline_flip"):
        if name == "tta_pipeline" and name not in cfg:
            assert path.stem.endswith("_custom")
            continue
        load, resize, annotations, _ = cfg.test_pipeline
        scales, flips, *rest = cfg[name][1].transforms
        assert cfg[name][0] == load and resize in scales and rest[0] == [annotations]
        assert [flip.prob for flip in flips] == [0.0, 1.0]
        assert rest[1] == [dict(type="PackDetInputs")]  # which notes flips unless told otherwise


# ViTDet Table 9 (arXiv 2203.16527): Cascade ViT-B 141M and ViT-L 361M. BEiT-3's layers add two
# sub-LNs and have no relative positions.
@pytest.mark.parametrize(("size", "millions"), [("base", 141), ("large", 361)])
def test_parameters_of_the_full_detectors(size: str, millions: int) -> None:
    init_default_scope("mmdet")
    cfg = Config.fromfile(FOLDER / NAME.format(f"{size}_lsj-1024"))
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert round(sum(param.numel() for param in model.parameters()) / 1e6) == millions


@pytest.mark.parametrize(
    ("size", "drop_path", "layer_decay"), [("base", 0.1, 0.7), ("large", 0.4, 0.8)]
)
def test_vitdet_values(size: str, drop_path: float, layer_decay: float) -> None:
    cfg = Config.fromfile(FOLDER / NAME.format(f"{size}_lsj-1024"))
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == layer_decay
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.1
    assert cfg.train_cfg.max_iters == 184375
    assert cfg.auto_scale_lr.base_batch_size == 64


def test_table_16_values() -> None:
    cfg = Config.fromfile(FOLDER / NAME.format("giant_soft-nms-1280"))
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.eps, optimizer.betas) == (5e-5, 1e-8, (0.9, 0.999))
    assert optimizer.weight_decay == 0.1
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay_rate=0.9)
    assert cfg.model.backbone.drop_path_rate == 0.6
    assert cfg.param_scheduler[0].end == 250
    assert cfg.train_cfg.max_iters == math.ceil(20 * 117266 / 64)
    assert cfg.model.test_cfg.rcnn.nms.type == "soft_nms"
    resize = next(t for t in cfg.train_pipeline if t.type == "RandomResize")
    assert resize.scale == (1280, 1280)
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline


def test_metafile_lists_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]
    assert all(model["Config"].endswith(model["Name"] + ".py") for model in models)


def test_no_config_leaves_its_own_folders() -> None:
    for path in FOLDER.parent.rglob("*.py"):
        assert not re.search(r"mm(det|seg)::", path.read_text(encoding="utf-8")), path
