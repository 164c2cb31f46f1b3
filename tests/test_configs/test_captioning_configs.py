"""The recipes of captioning: they build anywhere, and have the released values."""

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

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "beit3_captioning"
CONFIGS = sorted(FOLDER.glob("*.py"))
NAMES = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
# size, data: learning rate
RECIPES = {
    ("base", "coco"): 4e-5,
    ("large", "coco"): 8e-6,
    ("base", "nocaps"): 1e-5,
    ("large", "nocaps"): 8e-6,
}
STEPS, EPOCHS, WARM_UP = 566_747 // 256, 10, 1


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
    assert model.released_task == cfg.task == "captioning"


@NAMES
def test_head_says_what_it_reproduces_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split('"""')[1]
    assert "Reproduces:" in head and "Run:" in head and path.name in head


@pytest.mark.parametrize("recipe", RECIPES, ids="-".join)
def test_recipes_have_the_released_values(recipe: tuple[str, str], tokenizer_file: Path) -> None:
    (arch, data), lr = recipe, RECIPES[recipe]
    path = FOLDER / f"beit3-{arch}_480_{data}.py"
    cfg = Config.fromfile(path)
    wrapper, model = cfg.optim_wrapper, cfg.model
    assert cfg.auto_scale_lr.base_batch_size == 256 == 8 * cfg.train_dataloader.batch_size
    assert wrapper.accumulative_counts == "auto"
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.eps) == ("AdamW", lr, 1e-8)
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.999), 0.05)
    assert wrapper.clip_grad is None and wrapper.paramwise_cfg.layer_decay_rate == 1.0
    assert (model.encoder.arch, model.encoder.img_size) == (arch, 480)
    assert (model.encoder.drop_path_rate, model.encoder.with_cp) == (0.1, True)
    assert (model.mask_rate, model.label_smoothing) == (0.7, 0.1)
    assert (model.drop_worst_ratio, model.drop_worst_after) == (0.2, 12000)
    assert model.data_preprocessor.max_length == 32
    assert model.generation == dict(beams=3, length_penalty=0.6, max_length=64, released=True)
    assert model.init_cfg.checkpoint.endswith(f"/beit3_{arch}_patch16_224.pth")
    assert cfg.train_cfg.max_iters == EPOCHS * STEPS and cfg.train_cfg.val_interval == STEPS
    # images: of one size, changed as released, from COCO; tested on what the recipe is for
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    names = ["RandomResizedCrop", "RandomFlip", "RandAugment", "PackImageText"]
    assert [transform.type for transform in train.pipeline[1:]] == names
    assert train.pipeline[1].scale == 480 and test.pipeline[1].scale == (480, 480)
    assert (train.type, train.split) == ("mmbeit3.KarpathyDataset", "train")
    if data == "coco":
        assert cfg.val_dataloader.dataset.split == "val" and test.split == "test"
    else:
        assert test.ann_file == "nocaps_val_4500_captions.json" and "split" not in test
    # the schedule, from 0 over the peak to the least
    init_default_scope(cfg.default_scope)
    for curve in simulate(config(path, tokenizer_file)):
        assert curve.lr[0] <= 1e-5 * lr
        assert curve.lr[WARM_UP * STEPS - 1] == pytest.approx(lr, rel=1e-6)
        assert curve.lr[WARM_UP * STEPS // 2] == pytest.approx(lr / 2, rel=0.02)
        assert curve.lr[-1] == pytest.approx(1e-6, rel=0.01)


def test_metafile_and_table_list_every_config() -> None:
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))["Models"]
    assert sorted(model["Name"] for model in models) == [path.stem for path in CONFIGS]
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{path.stem}` |" in table for path in CONFIGS)
