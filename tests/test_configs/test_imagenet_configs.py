"""The classification configs build, and carry the numbers of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.config import check_arguments
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from tests.small_tokenizer import train

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_imagenet"
CONFIGS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_and_says_what_it_is(path: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head and "Run:" in head and path.name in head
    check_arguments(cfg, "train")
    check_arguments(cfg, "test")
    init_default_scope("mmbeit3")
    preprocessor = cfg.model.data_preprocessor
    if "tokenizer" in preprocessor:  # of another vocabulary, which only needs to be there
        file = train(tmp_path / "words.spm")
        preprocessor.tokenizer.file = str(file)
        cfg.model.encoder.vocab_size = Tokenizer(file).vocab_size
    with torch.device("meta"):
        MODELS.build(cfg.model)


def test_metafile_lists_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]


@pytest.mark.parametrize(
    ("size", "lr", "decay", "drop_path"), [("base", 7e-4, 0.65, 0.15), ("large", 2e-4, 0.8, 0.25)]
)
def test_values_of_the_released_recipe(
    size: str, lr: float, decay: float, drop_path: float
) -> None:
    cfg = Config.fromfile(FOLDER / f"beit3-{size}-linear_224_imagenet.py")
    optimizer, model = cfg.optim_wrapper.optimizer, cfg.model
    assert (optimizer.lr, optimizer.weight_decay, optimizer.eps) == (lr, 0.05, 1e-8)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == decay
    assert model.backbone.drop_path_rate == drop_path
    assert (model.mixup, model.cutmix, model.label_smoothing) == (0.8, 1.0, 0.1)
    assert cfg.auto_scale_lr.base_batch_size == 1024
    steps = 1281167 // 1024
    assert cfg.train_cfg.max_iters == 50 * steps
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin == 5 * steps and cosine.end == 50 * steps
    assert cosine.eta_min_ratio == pytest.approx(1e-6 / lr)
    assert model.backbone.init_cfg.checkpoint.endswith(f"/beit3_{size}_patch16_224.pth")


# Parameters of the released files, without their text branch: that of the README's counts.
@pytest.mark.parametrize(("size", "number"), [("base", 86_662_120), ("large", 304_430_056)])
def test_parameters(size: str, number: int) -> None:
    cfg = Config.fromfile(FOLDER / f"beit3-{size}-linear_224_imagenet.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert abs(sum(p.numel() for p in model.parameters()) - number) < 1_000_000
