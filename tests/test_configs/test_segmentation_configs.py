"""Every segmentation config: it builds, says what it is, and its crops fill the model's input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_mask2former"
CONFIGS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_from_another_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmseg")
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.backbone.embed_dims == cfg.model.neck.in_channels
    assert model.backbone.global_attn_indexes == set(range(model.backbone.num_layers))
    named = str(cfg.model.backbone.get("init_cfg"))
    assert cfg.model.backbone.arch in named or (cfg.model.backbone.arch, named) == ("tiny", "None")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_crops_fill_what_the_model_pads_to(path: Path) -> None:
    cfg = Config.fromfile(path)
    (crop,) = (step.crop_size for step in cfg.train_pipeline if step.type == "RandomCrop")
    assert cfg.model.data_preprocessor.size == crop
    if cfg.model.test_cfg.mode == "slide":
        assert cfg.model.test_cfg.crop_size == crop
        assert cfg.model.test_cfg.stride < crop
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_head_says_what_it_reproduces_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head and re.search(r"[Rr]un:", head) and path.name in head


def test_what_the_runtime_changes_for_segmentation() -> None:
    cfg = Config.fromfile(CONFIGS[0])
    assert cfg.default_scope == "mmseg" and cfg.visualizer.type == "SegLocalVisualizer"
    assert cfg.default_hooks.visualization.type == "SegVisualizationHook"
    assert cfg.default_hooks.timer.type == "IterTimerHook"


def test_metafile_lists_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]
    assert all(model["Config"].endswith(model["Name"] + ".py") for model in models)
