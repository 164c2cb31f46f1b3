"""The recipes of VQA and NLVR2: they build anywhere, and have the released values."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.config import check_arguments
from mmbeit3.engine import LayerDecayConstructor
from mmbeit3.engine.lr_schedule import simulate
from mmbeit3.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOLDERS = [CONFIGS / "beit3_vqa", CONFIGS / "beit3_nlvr2"]
PATHS = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))
NAMES = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


class Recipe(NamedTuple):
    """What microsoft/unilm's beit3/get_started has, or its code."""

    size: int
    lr: float
    layer_decay: float
    drop_path: float
    weight_decay: float
    betas: tuple[float, float]
    batch: int  # of a GPU, of 8
    epochs: int
    warm_up: int
    steps: int  # of an epoch
    start: str
    head: float = 1.0
    with_cp: bool = False


PRETRAINED = "beit3_{}_patch16_224.pth"
VQA = dict(layer_decay=1.0, weight_decay=0.01, betas=(0.9, 0.98), batch=16, head=20.0)
VQA |= dict(epochs=10, warm_up=1, steps=5000)
NLVR2 = dict(size=224, drop_path=0.2, weight_decay=0.2, betas=(0.9, 0.999), batch=32)
NLVR2 |= dict(epochs=20, warm_up=5, steps=337, start=PRETRAINED)
LARGE_VQA = dict(VQA, lr=2e-5, drop_path=0.15, with_cp=True)
RECIPES = {
    "beit3-base_480_vqav2": Recipe(size=480, lr=3e-5, drop_path=0.1, start=PRETRAINED, **VQA),
    "beit3-large_480_vqav2": Recipe(size=480, start=PRETRAINED, **LARGE_VQA),
    "beit3-large_768_vqav2": Recipe(
        size=768, start="beit3_{}_indomain_patch16_224.pth", **LARGE_VQA
    ),
    "beit3-base_224_nlvr2": Recipe(lr=7e-4, layer_decay=0.65, **NLVR2),
    "beit3-large_224_nlvr2": Recipe(lr=3e-4, layer_decay=0.85, with_cp=True, **NLVR2),
}


def path_of(name: str) -> Path:
    return next(path for path in PATHS if path.stem == name)


def config(path: Path, tokenizer: Path) -> Config:
    """A config with a tokenizer that is there, and no weights to start from."""
    cfg = Config.fromfile(path)
    cfg.model.data_preprocessor.tokenizer = dict(file=str(tokenizer), vocab_size=None)
    cfg.model.encoder.vocab_size = 128
    cfg.model.encoder.init_cfg = None
    return cfg


@NAMES
def test_builds_from_another_folder(
    path: Path, tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = config(path, tokenizer_file)
    init_default_scope(cfg.default_scope)
    for entry in ("train", "test"):
        check_arguments(cfg, entry)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.released_task == cfg.task == path.parent.name.removeprefix("beit3_")


@NAMES
def test_head_says_what_it_reproduces_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head and "Run:" in head and path.name in head


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_the_released_values(name: str, tokenizer_file: Path) -> None:
    want, arch = RECIPES[name], "large" if "large" in name else "base"
    cfg = Config.fromfile(path_of(name))
    wrapper, encoder = cfg.optim_wrapper, cfg.model.encoder
    assert cfg.auto_scale_lr.base_batch_size == 8 * want.batch
    assert cfg.train_dataloader.batch_size == want.batch
    assert wrapper.accumulative_counts == "auto" and wrapper.clip_grad is None
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.eps) == ("AdamW", want.lr, 1e-8)
    assert (optimizer.betas, optimizer.weight_decay) == (want.betas, want.weight_decay)
    assert (encoder.arch, encoder.img_size) == (arch, want.size)
    assert encoder.drop_path_rate == want.drop_path
    assert encoder.get("with_cp", False) == want.with_cp
    assert encoder.get("final_norm", True) == ("nlvr2" in name)
    assert encoder.init_cfg.checkpoint.endswith("/" + want.start.format(arch))
    assert cfg.model.data_preprocessor.max_length == 64
    assert not cfg.get("custom_hooks")  # no average of weights
    steps = want.epochs * want.steps
    assert cfg.train_cfg.max_iters == steps and cfg.train_cfg.val_interval == want.steps
    # the schedule, from 0 over the peak to the least, each group in proportion
    init_default_scope(cfg.default_scope)
    curves = simulate(config(path_of(name), tokenizer_file))
    layers = dict(base=12, large=24)[arch]
    depths = range(layers + 2)
    scales = [want.layer_decay ** (layers + 1 - depth) for depth in depths]
    if want.layer_decay == 1:
        scales = [1.0] * len(curves[:-1]) + [want.head]
    assert len(curves) == len(scales)
    for curve, scale in zip(curves, scales, strict=True):
        assert curve.lr[0] <= 1e-5 * want.lr * scale
        first = want.warm_up * want.steps
        assert curve.lr[first - 1] == pytest.approx(want.lr * scale, rel=1e-6)
        assert curve.lr[first // 2] == pytest.approx(want.lr * scale / 2, rel=0.02)
        assert curve.lr[-1] == pytest.approx(1e-6 * scale, rel=0.01)


@pytest.mark.parametrize("name", RECIPES)
def test_groups_learn_and_decay_as_released(name: str, tokenizer_file: Path) -> None:
    cfg = config(path_of(name), tokenizer_file)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    wrapper = cfg.optim_wrapper
    groups = LayerDecayConstructor(wrapper, wrapper.paramwise_cfg).groups(model)
    found = {key: group for group, members in groups.items() for key, _ in members}
    assert found.keys() == dict(model.named_parameters()).keys()
    decay, is_vqa = wrapper.optimizer.weight_decay, cfg.task == "vqa"
    for key, param in model.named_parameters():
        spared = param.ndim == 1 or key.endswith(("cls_token", "vision.pos_embed"))
        assert found[key].weight_decay == (0 if spared else decay), key
        if key.startswith(("head", "pooler")):
            want = 20 if is_vqa and key.startswith("head") else 1
            assert found[key].lr_scale == pytest.approx(want), key
    assert found["encoder.text.pos_embed"].weight_decay == decay  # as released: table B decays


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_are_changed_as_released(name: str) -> None:
    cfg = Config.fromfile(path_of(name))
    size = cfg.model.encoder.img_size

    def steps(loader: str) -> list[dict]:
        pipeline = cfg[loader].dataset.pipeline
        assert pipeline[-1].type == "PackImageText"
        return pipeline[0].transforms if cfg.task == "nlvr2" else pipeline[:-1]

    train = ["LoadImageFromFile", "RandomResizedCrop", "RandomFlip"]
    train += ["RandAugment"] if cfg.task == "vqa" else []
    assert [step.type for step in steps("train_dataloader")] == train
    assert steps("train_dataloader")[1].scale == size
    assert steps("train_dataloader")[1].crop_ratio_range == (0.5, 1.0)
    for loader in ("val_dataloader", "test_dataloader"):
        assert [step.type for step in steps(loader)] == ["LoadImageFromFile", "Resize"]
        resize = steps(loader)[1]
        assert (resize.scale, resize.interpolation) == ((size, size), "bicubic")
        assert (resize.keep_ratio, resize.backend) == (False, "pillow")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_metafile_and_table_list_every_config(folder: Path) -> None:
    models = yaml.safe_load((folder / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    names = sorted(path.stem for path in folder.glob("*.py"))
    assert sorted(model["Name"] for model in models) == names
    table = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in table for name in names)
