"""A training with LoRA, its checkpoints, and what they are read by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mmbeit3 import load
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.engine import build_runner
from mmbeit3.utils import InputError
from mmbeit3.utils.lora import UNMERGED

pytest.importorskip("peft", reason="needs peft", exc_type=ImportError)
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=2)


def cfg_of(shapes: Path, work_dir: Path, **options: Any) -> Config:
    options = {
        "log_level": "WARNING",
        "train_dataloader.batch_size": 2,
        "train_cfg.max_iters": 4,
        "train_cfg.val_interval": 100,
        "default_hooks.checkpoint.interval": 2,
        "default_hooks.checkpoint.max_keep_ckpts": 9,
        "model.backbone.lora": dict(rank=2),
        "optim_wrapper.optimizer.lr": 0.01,
        "param_scheduler": [],
        **options,
    }
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        options[f"{loader}.dataset.data_root"] = str(shapes)
    for evaluator in ("val_evaluator", "test_evaluator"):
        options[f"{evaluator}.ann_file"] = str(shapes / "annotations" / "val.json")
    return load_config(TINY, options, work_dir)


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("trained")
    ema = [dict(type="mmbeit3.EMAHook", momentum=0.3)]
    train(cfg_of(shapes, work_dir, custom_hooks=ema))
    return work_dir


def test_a_resumed_training_ends_with_the_same_weights(
    trained: Path, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "iter_2.pth").write_bytes((trained / "iter_2.pth").read_bytes())
    ema = [dict(type="mmbeit3.EMAHook", momentum=0.3)]
    train(cfg_of(shapes, tmp_path, custom_hooks=ema, resume=True))
    files = [read_checkpoint(folder / "iter_4.pth") for folder in (trained, tmp_path)]
    for part in ("state_dict", UNMERGED, "ema_state_dict"):
        assert files[0][part].keys() == files[1][part].keys()
        for name, value in files[0][part].items():
            assert torch.equal(value, files[1][part][name]), name


def test_the_checkpoint_is_one_of_a_model_without(trained: Path, shapes: Path) -> None:
    plain = load_config(TINY).model
    assert plain.backbone.get("lora") is None
    file, image = trained / "iter_4.pth", next((shapes / "val").glob("*.jpg"))
    # The config with the option, as it was dumped, makes the same model for inference.
    results = [load(config, file)(image) for config in (TINY, trained / TINY.name)]
    assert torch.equal(*(torch.as_tensor(result.scores) for result in results))
    start = read_checkpoint(trained / "iter_2.pth")["state_dict"]
    end = read_checkpoint(file)["state_dict"]
    moved = {name for name in end if not torch.equal(start[name], end[name])}
    of_tower = {name for name in moved if name.startswith("backbone.")}
    assert {name.split(".", 3)[-1] for name in of_tower} == {
        f"{part}.weight" for part in ("attn.qkv", "attn.proj", "ffn.fc1", "ffn.fc2")
    }
    assert any(name.startswith("roi_head") for name in moved)


def test_a_tower_alone_is_trained_on(shapes: Path, tmp_path: Path) -> None:
    file = CONFIGS.parent / "weights" / "beit3-tiny-pretraining-images_128_shapes.safetensors"
    train(cfg_of(shapes, tmp_path, load_from=str(file), **{"train_cfg.max_iters": 2}))
    tower = read_checkpoint(file)
    tower = tower.get("state_dict", tower)
    apart = read_checkpoint(tmp_path / "iter_2.pth")[UNMERGED]
    for name in ("layers.0.attn.qkv.weight", "layers.3.ffn.fc2.weight"):
        assert torch.equal(apart[f"backbone.{name}"], tower[name])
    assert apart["backbone.layers.0.attn.qkv.lora_B.default.weight"].any()


def test_a_runner_that_also_trains_tests_the_merged_weights(
    trained: Path, shapes: Path, tmp_path: Path
) -> None:
    file = str(trained / "iter_4.pth")
    results = []
    for lora in (dict(rank=2), None):
        runner = build_runner(
            cfg_of(shapes, tmp_path, load_from=file, **{"model.backbone.lora": lora})
        )
        results.append(runner.test())
    assert results[0] == results[1]


def test_training_goes_on_neither_without_lora_nor_with_it_from_a_file_without(
    trained: Path, shapes: Path, tmp_path: Path
) -> None:
    cfg = cfg_of(shapes, tmp_path / "a", load_from=str(trained / "iter_2.pth"), resume=True)
    cfg.model.backbone.lora = None
    with pytest.raises(InputError, match="cannot be resumed with this config"):
        train(cfg)
    cfg = cfg_of(shapes, tmp_path / "b", **{"model.backbone.lora": None, "train_cfg.max_iters": 2})
    train(cfg)
    with pytest.raises(InputError, match="it was trained without LoRA"):
        train(cfg_of(shapes, tmp_path / "b", resume=True))
