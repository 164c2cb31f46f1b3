"""Every segmentation config: it builds, says what it is, and its crops fill the model's input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.checkpoint import load_weights
from mmbeit3.datasets import COCOStuffDataset
from mmbeit3.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_mask2former"
CONFIGS = sorted(FOLDER.glob("*.py"))
STARTING_FROM_NOTHING = (
    "mask2former_beit3-tiny_shapes",
    "mask2former_beit3-tiny-adapter_shapes",
    "mask2former_beit3-giant-adapter_896_ade20k",
    "mask2former_beit3-giant-adapter_896_coco-stuff164k",
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_from_another_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmseg")
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    backbone, head = model.backbone, cfg.model.decode_head
    widths = head.in_channels if cfg.model.get("neck") is None else [cfg.model.neck.in_channels]
    assert set(widths) == {backbone.embed_dims}
    assert backbone.global_attn_indexes == set(range(backbone.num_layers))
    weights = str(cfg.model.backbone.get("init_cfg"))
    assert weights == "None" or cfg.model.backbone.arch in weights
    assert (weights == "None") == (path.stem in STARTING_FROM_NOTHING or cfg.load_from is not None)


def parameters(name: str) -> int:
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(Config.fromfile(FOLDER / f"{name}.py").model)
    return sum(param.numel() for param in model.parameters())


def test_the_large_adapter_has_the_published_size() -> None:
    """571M are in ViT-Adapter's segmentation/README.md for BEiT-2 large with Mask2Former at 896."""
    layers, width, hidden, heads, grid = 24, 1024, 4096, 16, 896 // 16
    beit3_alone = layers * (2 * width + 2 * hidden)  # two more LNs in a layer
    beit3_alone += layers * width  # the bias of k
    beit3_alone += (1 + 14 * 14) * width  # positions
    beit_alone = layers * heads * ((2 * grid - 1) ** 2 + 3)  # relative positions
    beit_alone += layers * 2 * width  # layer scale
    total = parameters("mask2former_beit3-large-adapter_896_ade20k") - beit3_alone + beit_alone
    assert round(total / 1e6) == 571


def test_table_15_values() -> None:
    cfg = Config.fromfile(FOLDER / "mask2former_beit3-giant-adapter_896_ade20k.py")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.eps, optimizer.betas) == (1e-5, 1e-8, (0.9, 0.999))
    assert optimizer.weight_decay == 0.05
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.95
    assert cfg.model.backbone.drop_path_rate == 0.5
    assert (cfg.param_scheduler[0].end, cfg.train_cfg.max_iters) == (1500, 80000)
    assert cfg.model.data_preprocessor.size == (896, 896)
    assert cfg.auto_scale_lr.base_batch_size == 16 == 8 * cfg.train_dataloader.batch_size


@pytest.mark.parametrize("size", ["base", "large", "giant"])
def test_ade20k_goes_on_where_coco_stuff_ends(size: str) -> None:
    name = f"mask2former_beit3-{size}-adapter_896_"
    first, second, alone = (
        Config.fromfile(FOLDER / f"{name}{data}.py")
        for data in ("coco-stuff164k", "coco-stuff_ade20k", "ade20k")
    )
    # where tools/train.py leaves it
    assert (
        second.load_from == f"work_dirs/{name}coco-stuff164k/iter_{first.train_cfg.max_iters}.pth"
    )
    assert first.model.decode_head.num_classes == len(COCOStuffDataset.METAINFO["classes"])
    assert first.optim_wrapper == second.optim_wrapper == alone.optim_wrapper
    alone.model.backbone.init_cfg = None
    assert second.model == alone.model


def test_all_but_the_classes_is_taken_over_from_coco_stuff() -> None:
    init_default_scope("mmseg")
    models = []
    for data in ("coco-stuff164k", "coco-stuff_ade20k"):
        cfg = Config.fromfile(FOLDER / f"mask2former_beit3-base-adapter_896_{data}.py").model
        cfg.backbone.update(
            init_cfg=None,
            arch=dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=64),
        )
        cfg.decode_head.in_channels = [48] * 4
        models.append(MODELS.build(cfg))
    first, second = models
    state = {name: torch.rand_like(value) for name, value in first.state_dict().items()}
    report = load_weights(second, {"state_dict": state}, strict=False)
    classes = {"decode_head.cls_embed.weight", "decode_head.cls_embed.bias"}
    assert set(report.matched) == set(second.state_dict()) - classes
    assert all(torch.equal(second.state_dict()[name], state[name]) for name in report.matched)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_augmented_tests_prepare_images_as_the_plain_test_does(path: Path) -> None:
    cfg = Config.fromfile(path)
    (plain,) = (step for step in cfg.test_pipeline if step.type == "Resize")
    assert cfg.tta_model.type == "mmbeit3.SegTTAModel"
    for name in ("tta_pipeline", "tta_pipeline_flip"):
        if name == "tta_pipeline" and name not in cfg:
            assert path.stem.endswith("_custom")
            continue
        scales, flips, *rest = cfg[name][-1].transforms
        assert plain in scales
        assert [flip.prob for flip in flips] == [0.0, 1.0]
        assert [step[0].type for step in rest] == ["LoadAnnotations", "PackSegInputs"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_crops_fill_what_the_model_pads_to(path: Path) -> None:
    cfg = Config.fromfile(path)
    (crop,) = (step.crop_size for step in cfg.train_pipeline if step.type.endswith("RandomCrop"))
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
    assert cfg.default_scope == "mmseg" and cfg.visualizer.type == "mmbeit3.Visualizer"
    assert cfg.default_hooks.visualization.type == "SegVisualizationHook"
    assert cfg.default_hooks.timer.type == "IterTimerHook"


def test_metafile_lists_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]
    assert all(model["Config"].endswith(model["Name"] + ".py") for model in models)
