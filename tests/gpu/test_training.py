"""Whole trainings on a GPU: resuming, one process of DDP and of sharding, AMP, compilation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmbeit3 import accelerate
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.models import BEiT3
from tests.test_engine.toy import config

ROOT = Path(__file__).resolve().parents[2]
ITERS = 8


def on_both(*marks: pytest.MarkDecorator) -> Any:
    """Run on the machine's GPU by ``-m gpu``, and on the CPU of one that has none."""
    none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    gpu = pytest.param("cuda", marks=pytest.mark.gpu)
    places = [pytest.param("cpu", marks=(none, *marks)), gpu]
    return pytest.mark.parametrize("where", places, indirect=True)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        request.getfixturevalue("cuda")
    return request.param


def weights(work_dir: Path, iters: int = ITERS) -> dict[str, Tensor]:
    return read_checkpoint(work_dir / f"iter_{iters}.pth")["state_dict"]


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 0) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=tolerance, rtol=tolerance)


@on_both()
def test_resuming_repeats_the_training_bit_for_bit(where: str, tmp_path: Path) -> None:
    changes = dict(max_iters=ITERS, randomness__seed=0)
    train(config(tmp_path / "whole", **changes))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again" / f"iter_{ITERS}.pth").unlink()
    train(config(tmp_path / "again", **changes), resume=True)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "again"))


@on_both()
def test_amp_trains_nearly_the_same(where: str, tmp_path: Path) -> None:
    amp = dict(optim_wrapper__type="mmbeit3.AmpOptimWrapper", optim_wrapper__dtype="bfloat16")
    one = train_for(tmp_path / "float32")
    two = train_for(tmp_path / "amp", **amp)
    assert all(value.isfinite().all() for value in two.values())
    assert_equal(one, two, 0.2)


def train_for(work_dir: Path, **changes: Any) -> dict[str, Tensor]:
    train(config(work_dir, max_iters=2, randomness__seed=0, train_cfg__val_interval=9, **changes))
    return weights(work_dir, 2)


@on_both(pytest.mark.slow)
@pytest.mark.parametrize("wrapper", [None, "mmbeit3.FullySharded"])
def test_one_process_of_several_trains_as_one_alone(
    where: str, wrapper: str | None, tmp_path: Path
) -> None:
    found = []
    for launcher in ("none", "pytorch"):
        cfg = config(tmp_path / launcher, max_iters=4, randomness__seed=0)
        cfg.custom_imports = dict(imports=["mmbeit3", "tests.test_engine.toy"])
        if launcher == "pytorch" and wrapper:
            cfg.model_wrapper_cfg = dict(type=wrapper)
        file = tmp_path / f"{launcher}.py"
        cfg.dump(file)
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
        command = [sys.executable, *(several if launcher == "pytorch" else [])]
        command += [str(ROOT / "tests/test_engine/launch.py"), str(file)]
        done = subprocess.run(
            [*command, str(tmp_path / launcher), launcher],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        found.append(weights(tmp_path / launcher, 4))
    assert_equal(*found, 1e-9)  # in float64


@on_both(pytest.mark.slow)
def test_a_compiled_tower_computes_the_same(where: str) -> None:
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    torch.manual_seed(0)
    model = BEiT3(arch, patch_size=8, window_size=4).to(where).eval()
    images = torch.randn(1, 3, 64, 96).to(where)
    with torch.inference_mode():
        want = model(images)[0]
        accelerate(model, compile=True)
        found = model(images)[0]
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)
