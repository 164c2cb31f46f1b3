"""Loops, samplers, schedules and hooks that count epochs or iterations, in any combination."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import BatchSampler, Sampler

from mmbeit3.apis.training import train as train_config
from mmbeit3.config.loading import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.engine import build_runner
from mmbeit3.engine.train_loop import TrainLoop
from mmbeit3.utils import InputError

from .toy import Accuracy, config

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT.parent / "shared" / "cases" / "epoch_loop"


@LOOPS.register_module(force=True)
class OwnEpochLoop(EpochBasedTrainLoop):
    """A loop of the user's."""


@DATA_SAMPLERS.register_module(force=True)
class Endless(Sampler):
    """An endless order that mmengine does not know."""

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        self.size = len(dataset)

    def __iter__(self) -> Iterator[int]:
        return (number % self.size for number in count())

    def __len__(self) -> int:
        return self.size


@DATA_SAMPLERS.register_module(force=True)
class Pairs(BatchSampler):
    """Batches of two."""

    def __init__(self, sampler: Sampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)


def epochs(work_dir: Path, **changes: Any) -> Any:
    """A training by epochs; its sampler is the configs' one unless changed."""
    cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 2, "_delete_": True}
    return build_runner(config(work_dir, **{"train_cfg": cfg, **changes}))


FINITE = {"train_dataloader__sampler": {"type": "DefaultSampler", "shuffle": True}}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "InfiniteSampler"),
        ({"train_cfg": {"type": "OwnEpochLoop", "max_epochs": 1, "_delete_": True}}, "Infinite"),
        ({"train_cfg": {"by_epoch": True, "max_epochs": 1, "_delete_": True}}, "Infinite"),
        ({"train_cfg": {"max_epochs": 1, "_delete_": True}}, "InfiniteSampler"),
        ({"train_dataloader__sampler": {"type": "Endless"}}, "Endless"),
        ({"train_dataloader__num_batch_per_epoch": 3}, "InfiniteSampler"),
    ],
)
def test_epochs_that_never_end_are_refused(tmp_path: Path, changes: dict, name: str) -> None:
    with pytest.raises(InputError) as caught:
        epochs(tmp_path, **changes).train()
    assert f"train_dataloader: {name}" in str(caught.value)
    assert 'train_dataloader.sampler.type="DefaultSampler"' in str(caught.value)


def test_batches_over_an_endless_order_are_refused(tmp_path: Path) -> None:
    cfg = config(tmp_path, train_dataloader__batch_sampler={"type": "Pairs", "batch_size": 2})
    cfg.train_dataloader.sampler.type = "InfiniteSampler"
    cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 1}
    del cfg.train_dataloader["batch_size"]
    with pytest.raises(InputError, match="InfiniteSampler is endless"):
        build_runner(cfg).train()


@pytest.mark.parametrize("loader", ["val", "test"])
def test_an_evaluation_must_end(tmp_path: Path, loader: str) -> None:
    cfg = config(tmp_path, val_dataloader__sampler={"type": "InfiniteSampler", "_delete_": True})
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = {}
    with pytest.raises(InputError, match=f'{loader}_dataloader.sampler.type="DefaultSampler"'):
        getattr(build_runner(cfg), loader)()


@pytest.mark.parametrize(
    "loop", [{"type": "EpochBasedTrainLoop"}, {"type": "OwnEpochLoop"}, {"by_epoch": True}]
)
def test_epochs_end_with_a_validation(tmp_path: Path, loop: dict) -> None:
    Accuracy.counts.clear()
    loop = {**loop, "max_epochs": 2, "val_interval": 1, "_delete_": True}
    runner = epochs(tmp_path, train_cfg=loop, **FINITE)
    runner.train()
    assert (runner.epoch, runner.iter, Accuracy.counts) == (2, 12, [22, 22])
    log = Path(runner.logger.log_file).read_text()
    assert "checkpoints are written inside epochs" in log  # as the config counts iterations


def test_a_checkpoint_inside_an_epoch_cannot_be_resumed(tmp_path: Path) -> None:
    changes = {"default_hooks__checkpoint__interval": 4, **FINITE}
    epochs(tmp_path, **changes).train()
    runner = epochs(tmp_path, **changes, resume=True, load_from=str(tmp_path / "iter_8.pth"))
    with pytest.raises(InputError, match="after 8 iterations, 1 of its epochs, and an epoch of "):
        runner.train()


@pytest.mark.parametrize(
    "loop",
    [
        {"type": "mmbeit3.TrainLoop"},
        {"type": "IterBasedTrainLoop"},
        {"type": IterBasedTrainLoop},
        {"by_epoch": False},
    ],
)
def test_iterations_need_no_setting_of_what_is_counted(tmp_path: Path, loop: dict) -> None:
    cfg = config(tmp_path)
    cfg.train_cfg = {**loop, "max_iters": 8, "val_interval": 4}
    cfg.pop("log_processor")
    cfg.pop("default_hooks")
    runner = build_runner(cfg)
    runner.train()
    assert isinstance(runner.train_loop, TrainLoop) == (loop.get("type") == "mmbeit3.TrainLoop")
    assert (tmp_path / "iter_8.pth").is_file()
    assert not runner.log_processor.by_epoch
    scalars = (Path(runner.log_dir) / "vis_data" / "scalars.json").read_text().splitlines()
    found = [json.loads(line) for line in scalars]
    assert [each["step"] for each in found if "accuracy" in each] == [4, 8]


SCHEDULE = {"type": "CosineAnnealingLR", "T_max": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"param_scheduler": [SCHEDULE]},
            r"param_scheduler.0 \(CosineAnnealingLR\) counts epochs .* set by_epoch=False",
        ),
        (
            {"param_scheduler": {**SCHEDULE, "_delete_": True}},
            r"param_scheduler.0 \(CosineAnnealingLR\) counts epochs",
        ),
        (
            {"param_scheduler": [{**SCHEDULE, "convert_to_iter_based": True}]},
            "param_scheduler.0 .* has no end; state it, in epochs",
        ),
        (
            {"default_hooks__checkpoint": {"by_epoch": True, "interval": 1}},
            r"CheckpointHook counts epochs .* dict\(checkpoint=dict\(by_epoch=False, inter",
        ),
        (
            {"custom_hooks": [{"type": "EMAHook", "begin_epoch": 2}]},
            "EMAHook counts epochs .begin_epoch=2., of which this loop has none: set its iteration",
        ),
    ],
)
def test_what_counts_epochs_is_refused_by_iterations(
    tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_runner(config(tmp_path, **changes)).train()
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize(("batch_size", "counts", "length"), [(4, 1, 6), (2, 3, 4), (11, 2, 1)])
def test_epochs_of_a_schedule_are_counted_in_steps(
    tmp_path: Path, batch_size: int, counts: int, length: int
) -> None:
    schedule = {"type": "StepLR", "step_size": 1, "convert_to_iter_based": True, "end": 9}
    runner = build_runner(
        config(
            tmp_path,
            max_iters=1,
            param_scheduler=[schedule],
            train_dataloader__batch_size=batch_size,
            optim_wrapper__accumulative_counts=counts,
        )
    )
    runner.train()
    assert runner.param_schedulers[0].step_size == length  # of 22 samples


@pytest.mark.skipif(not CASE.is_dir(), reason=f"the cases are not at {CASE}")
def test_the_case_is_refused_and_its_cure_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared" / "cases" / "epoch_loop"
    shutil.copytree(CASE, folder)
    (tmp_path / "shared" / "REPO").symlink_to(ROOT)
    make_shapes(tmp_path / "data" / "shapes", num_train=4, num_val=2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='sampler.type="DefaultSampler"'):
        train_config(load_config(folder / "config.py", work_dir=tmp_path / "work"))
    cure = {"train_dataloader.sampler.type": "DefaultSampler"}
    train_config(load_config(folder / "config.py", cure, tmp_path / "work"))
    log = next((tmp_path / "work").glob("2*/vis_data/scalars.json")).read_text().splitlines()
    found = [json.loads(line) for line in log]
    assert [each["step"] for each in found] == [1, 2, 2]
    assert "coco/bbox_mAP" in found[-1]


THEIRS = {
    "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 1, "_delete_": True},
    "train_dataloader__sampler": {"type": "InfiniteSampler"},
    "default_hooks__checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 1},
}


@pytest.mark.parametrize("named", [["train_cfg"], list(THEIRS), []])
def test_types_that_do_not_resume_exactly_are_named(tmp_path: Path, named: list[str]) -> None:
    runner = build_runner(config(tmp_path, **{"max_iters": 1, **{k: THEIRS[k] for k in named}}))
    runner.train()
    (log,) = tmp_path.glob("2*/2*.log")
    found = re.findall(
        "not be exactly as one without interruption; for that set (.*)", log.read_text()
    )
    wanted = {
        "train_cfg": 'train_cfg.type="mmbeit3.TrainLoop"',
        "train_dataloader__sampler": 'train_dataloader.sampler.type="mmbeit3.InfiniteSampler"',
        "default_hooks__checkpoint": 'default_hooks.checkpoint.type="mmbeit3.CheckpointHook"',
    }
    assert found == ([", ".join(wanted[key] for key in named)] if named else [])
