"""The recipes of image-text retrieval: they build anywhere, and have the released values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmbeit3.config import check_arguments
from mmbeit3.engine.lr_schedule import simulate
from mmbeit3.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_retrieval"
CONFIGS = sorted(FOLDER.glob("*.py"))
NAMES = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
# size, data: learning rate, layer decay, batch of a GPU, GPUs, epochs, warm-up epochs, steps of one
RECIPES = {
    ("base", "coco"): (2e-4, 0.65, 192, 16, 15, 3, 184),
    ("large", "coco"): (5e-5, 0.85, 96, 32, 15, 3, 184),
    ("base", "flickr30k"): (1e-4, 0.65, 192, 16, 20, 5, 47),
    ("large", "flickr30k"): (5e-5, 0.85, 96, 32, 20, 5, 47),
}


def config(path: Path, tokenizer: Path) -> Config:
    """A config with a tokenizer that is there, and no weights to start from."""
    cfg = Config.fromfile(path)
    cfg.model.data_preprocessor.tokenizer = dict(file=str(tokenizer), vocab_size=None)
    cfg.model.encoder.vocab_size = 128
    cfg.model.init_cfg = None
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
    assert model.released_task == "retrieval"


@NAMES
def test_head_says_what_it_reproduces_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head and "Run:" in head and path.name in head


@pytest.mark.parametrize("recipe", RECIPES, ids="-".join)
def test_recipes_have_the_released_values(recipe: tuple[str, str], tokenizer_file: Path) -> None:
    lr, decay, batch, gpus, epochs, warm_up, steps = RECIPES[recipe]
    path = FOLDER / f"beit3-{recipe[0]}_384_{recipe[1]}.py"
    cfg = Config.fromfile(path)
    wrapper, encoder = cfg.optim_wrapper, cfg.model.encoder
    assert batch * gpus == cfg.auto_scale_lr.base_batch_size == 3072
    assert cfg.train_dataloader.batch_size == batch and wrapper.accumulative_counts == 1
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.eps) == ("AdamW", lr, 1e-8)
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.999), 0.05)
    assert wrapper.clip_grad is None and wrapper.paramwise_cfg.layer_decay_rate == decay
    assert (encoder.arch, encoder.img_size, encoder.drop_path_rate) == (recipe[0], 384, 0.2)
    assert cfg.model.init_cfg.checkpoint.endswith(f"/beit3_{recipe[0]}_itc_patch16_224.pth")
    assert cfg.model.same_image == "negative" and cfg.model.max_logit_scale is None
    assert cfg.train_cfg.max_iters == epochs * steps and cfg.train_cfg.val_interval == steps
    # the schedule, from 0 over the peak to the least, each group in proportion
    init_default_scope(cfg.default_scope)
    curves = simulate(config(path, tokenizer_file))
    assert curves[-1].name == "logit_scale, encoder, vision_head, language_head"
    layers = dict(base=12, large=24)[recipe[0]]
    scales = [decay ** (layers + 1 - depth) for depth in range(layers + 2)]
    for curve, scale in zip(curves, scales, strict=True):
        assert curve.lr[0] <= 1e-5 * lr * scale
        assert curve.lr[warm_up * steps - 1] == pytest.approx(lr * scale, rel=1e-6)
        assert curve.lr[warm_up * steps // 2] == pytest.approx(lr * scale / 2, rel=0.02)
        assert curve.lr[-1] == pytest.approx(1e-6 * scale, rel=0.01)


def test_metafile_and_table_list_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{path.stem}` |" in table for path in CONFIGS)
