"""Two processes on the CPU train the tiny detector, and must do what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.datasets import make_shapes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"
NUM_VAL = 3  # two processes cannot share them evenly
ITERS = 10

CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(backbone=dict(drop_path_rate=0.2))
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader, batch_size=1,
    dataset=dict(data_root=data_root, filter_cfg=dict(filter_empty_gt=False)))
val_dataloader = dict(**loader, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + "/annotations/val.json", outfile_prefix={prefix!r})
test_evaluator = val_evaluator
train_cfg = dict(max_iters={iters}, val_interval=10)
custom_hooks = [dict(type="mmbeit3.EMAHook", momentum=0.01)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=5, max_keep_ckpts=9))
auto_scale_lr = dict(enable=False, base_batch_size=2)
optim_wrapper = dict(accumulative_counts="auto")
"""
SHARDED = 'model_wrapper_cfg = dict(type="mmbeit3.FullySharded")\n'


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training images, one of them without an object."""
    folder = make_shapes(tmp_path_factory.mktemp("data") / "shapes", num_train=8, num_val=NUM_VAL)
    file = folder / "annotations" / "train.json"
    data = json.loads(file.read_text())
    empty = data["images"][0]["id"]
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] != empty]
    file.write_text(json.dumps(data))
    return folder


class Run:
    """A training, by one process or by two."""

    def __init__(self, folder: Path, shapes: Path, processes: int, more: str = "") -> None:
        self.work_dir, self.processes = folder / "work", processes
        self.config = folder / "config.py"
        self.settings = dict(base=str(TINY), data=str(shapes), prefix=str(folder / "results"))
        self.more = more

    def train(self, iters: int = ITERS, *options: str) -> str:
        self.config.write_text(CONFIG.format(**self.settings, iters=iters) + self.more)
        launch = [str(ROOT / "tests/test_engine/launch.py"), str(self.config), str(self.work_dir)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        several = [*launcher, str(self.processes)] if self.processes > 1 else []
        kind = "pytorch" if several else "none"
        done = subprocess.run(
            [sys.executable, *several, *launch, kind, *options],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def checkpoint(self, iters: int = ITERS) -> dict[str, Any]:
        return read_checkpoint(self.work_dir / f"iter_{iters}.pth")

    def losses(self) -> dict[str, torch.Tensor]:
        scalars = self.checkpoint()["message_hub"]["log_scalars"]
        names = [name for name in scalars if "loss" in name or "grad_norm" in name]
        return {name: torch.tensor(scalars[name].data[0]) for name in names}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict[str, Run]:
    """The same training three times; its text is kept as ``output``."""
    kinds = {"alone": (1, ""), "ddp": (2, ""), "sharded": (2, SHARDED)}
    made = {}
    for kind, (processes, more) in kinds.items():
        made[kind] = Run(tmp_path_factory.mktemp(kind), shapes, processes, more)
        made[kind].output = made[kind].train()
    return made


def test_the_batch_is_the_recipes_on_any_number_of_processes(runs: dict[str, Run]) -> None:
    sentence = "one iteration is one optimizer step of 2 images: "
    for kind, (processes, counts) in {"alone": (1, 2), "ddp": (2, 1)}.items():
        made = f"{processes} process(es) x 1 images x {counts} accumulated, as in the recipe"
        assert sentence + made in runs[kind].output


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_lose_what_one_does(runs: dict[str, Run], kind: str) -> None:
    expected, found = runs["alone"].losses(), runs[kind].losses()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(values) == ITERS
        torch.testing.assert_close(found[name], values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_end_where_one_does(runs: dict[str, Run], kind: str) -> None:
    one, other = runs["alone"].checkpoint(), runs[kind].checkpoint()
    for part in ("state_dict", "ema_state_dict"):
        assert one[part].keys() == other[part].keys()
        for name, value in one[part].items():
            torch.testing.assert_close(other[part][name], value, rtol=1e-6, atol=1e-6, msg=name)
    sizes = [
        [
            (name, value.shape)
            for state in each["optimizer"]["state"].values()
            for name, value in state.items()
        ]
        for each in (one, other)
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_every_image_is_evaluated_once(runs: dict[str, Run], kind: str) -> None:
    found = {}
    for each in ("alone", kind):
        file = runs[each].work_dir.parent / "results.bbox.json"
        results = json.loads(file.read_text())
        found[each] = {}
        for result in results:
            found[each].setdefault(result["image_id"], []).append(result["score"])
    assert found[kind].keys() == found["alone"].keys() and len(found["alone"]) == NUM_VAL
    for image, scores in found["alone"].items():
        # At most as many as a single image may have: none of them twice.
        assert len(found[kind][image]) == len(scores) <= 100
        assert sorted(found[kind][image]) == pytest.approx(sorted(scores), abs=1e-5)


def resumed(runs: dict[str, Run], folder: Path, shapes: Path, processes: int, more: str) -> Run:
    """The second half of the sharded training, from its checkpoint in the middle."""
    run = Run(folder, shapes, processes, more)
    run.work_dir.mkdir()
    shutil.copy(runs["sharded"].work_dir / "iter_5.pth", run.work_dir)
    assert "resumed epoch: 0, iter: 5" in run.train(ITERS, "--resume")
    return run


def test_a_sharded_training_resumes_with_the_same_bits(
    runs: dict[str, Run], tmp_path: Path, shapes: Path
) -> None:
    run = resumed(runs, tmp_path, shapes, 2, SHARDED)
    expected, found = runs["sharded"].checkpoint(), run.checkpoint()
    for part in ("state_dict", "ema_state_dict"):
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), name


def test_a_sharded_training_resumes_with_the_configs_rates(
    runs: dict[str, Run], tmp_path: Path, shapes: Path
) -> None:
    doubled = SHARDED + "optim_wrapper.update(optimizer=dict(lr=8e-4))\n"
    run = resumed(runs, tmp_path, shapes, 2, doubled)
    expected, found = (
        each.checkpoint()["message_hub"]["log_scalars"]["train/max_lr"].data[0]
        for each in (runs["sharded"], run)
    )
    assert found[:5] == pytest.approx(expected[:5])
    assert found[5:] == pytest.approx(2 * expected[5:])


def test_sharding_can_be_left_off_when_resuming(
    runs: dict[str, Run], tmp_path: Path, shapes: Path
) -> None:
    run = resumed(runs, tmp_path, shapes, 1, "")
    expected, found = runs["alone"].checkpoint(), run.checkpoint()
    for part in ("state_dict", "ema_state_dict"):
        for name, value in expected[part].items():
            torch.testing.assert_close(found[part][name], value, rtol=1e-6, atol=1e-6, msg=name)
