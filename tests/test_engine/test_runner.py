from __future__ import annotations

import copy
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import Runner, build_runner
from mmbeit3.utils import InputError


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, inputs: Tensor, labels: Tensor, mode: str) -> dict[str, Tensor] | Tensor:
        scores = self.head(self.backbone(inputs).relu())
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(scores, labels)}
        return list(zip(scores.argmax(1).tolist(), labels.tolist(), strict=True))


@DATASETS.register_module(force=True)
class ToyData(Dataset):
    metainfo = {"classes": ("a", "b")}

    def __init__(self) -> None:
        self.inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        return {"inputs": self.inputs[index], "labels": int(self.inputs[index, 0] > 0)}


@METRICS.register_module(force=True)
class ToyAccuracy(BaseMetric):
    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results += [found == expected for found, expected in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"accuracy": sum(results) / len(results)}


def toy_config(work_dir: Path, **changes: object) -> Config:
    loader = {
        "dataset": {"type": "ToyData"},
        "batch_size": 4,
        "num_workers": 0,
        "collate_fn": {"type": "default_collate"},
    }
    cfg = Config(
        {
            "model": {"type": "ToyModel"},
            "work_dir": str(work_dir),
            "experiment_name": uuid.uuid4().hex,
            "train_dataloader": {**loader, "sampler": {"type": "mmbeit3.InfiniteSampler"}},
            "train_cfg": {"type": "mmbeit3.TrainLoop", "max_iters": 4, "val_interval": 4},
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.1}},
            "param_scheduler": [{"type": "LinearLR", "by_epoch": False, "end": 4}],
            "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
            "val_cfg": {},
            "val_evaluator": {"type": "ToyAccuracy"},
            "default_hooks": {
                "checkpoint": {"type": "mmbeit3.CheckpointHook", "by_epoch": False, "interval": 2},
                "logger": {"type": "LoggerHook", "interval": 1},
            },
            "log_processor": {"by_epoch": False},
            "log_level": "WARNING",
            "randomness": {"seed": 0},
        }
    )
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = {}
    cfg.merge_from_dict(changes)
    return copy.deepcopy(cfg)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of four iterations of training, with a checkpoint after two."""
    work_dir = tmp_path_factory.mktemp("trained")
    build_runner(toy_config(work_dir)).train()
    return work_dir


def test_fresh_checkpoints_are_read_without_running_code(trained: Path) -> None:
    checkpoint = read_checkpoint(trained / "iter_4.pth")
    assert checkpoint["meta"]["iter"] == 4
    assert checkpoint["meta"]["dataset_meta"] == {"classes": ("a", "b")}
    history, counts = checkpoint["message_hub"]["log_scalars"]["train/loss"].data
    assert len(history) == 4 and counts.tolist() == [1, 1, 1, 1]
    assert set(checkpoint) >= {"state_dict", "optimizer", "param_schedulers"}


@pytest.mark.parametrize("path", ["iter_2.pth", None], ids=["given", "latest"])
def test_resumed_training_ends_where_unbroken_training_does(
    trained: Path, tmp_path: Path, path: str | None
) -> None:
    build_runner(toy_config(tmp_path, **{"train_cfg.max_iters": 2})).train()
    load_from = str(tmp_path / path) if path else None
    runner = build_runner(toy_config(tmp_path, resume=True, load_from=load_from))
    runner.train()
    assert runner.iter == 4
    resumed = read_checkpoint(tmp_path / "iter_4.pth")
    unbroken = read_checkpoint(trained / "iter_4.pth")
    for name, value in unbroken["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name
    losses = [c["message_hub"]["log_scalars"]["train/loss"].data[0] for c in (resumed, unbroken)]
    assert losses[0].tolist() == losses[1].tolist()


def test_the_same_seed_gives_the_same_numbers(trained: Path, tmp_path: Path) -> None:
    build_runner(toy_config(tmp_path)).train()
    first, second = (read_checkpoint(d / "iter_4.pth")["state_dict"] for d in (trained, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_testing_uses_the_weights_of_the_file(trained: Path, tmp_path: Path) -> None:
    runner = Runner.from_cfg(toy_config(tmp_path, load_from=str(trained / "iter_4.pth")))
    assert runner.test()["accuracy"] > 0.5
    expected = read_checkpoint(trained / "iter_4.pth")["state_dict"]
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("task", ["test", "val", "resume"])
def test_another_model_is_refused(trained: Path, tmp_path: Path, task: str) -> None:
    changes = {"model.num_classes": 3, "load_from": str(trained / "iter_4.pth")}
    runner = build_runner(toy_config(tmp_path, resume=task == "resume", **changes))
    with pytest.raises(InputError, match=r"iter_4.pth is of another model: 2 weights fit"):
        getattr(runner, "train" if task == "resume" else task)()


def test_fine_tuning_takes_what_fits(trained: Path, tmp_path: Path) -> None:
    source = read_checkpoint(trained / "iter_4.pth")["state_dict"]
    changes = {"model.num_classes": 3, "load_from": str(trained / "iter_4.pth")}
    changes["optim_wrapper.optimizer.lr"] = 0.0
    runner = build_runner(toy_config(tmp_path, **changes))
    runner.train()
    assert runner.iter == 4
    assert torch.equal(runner.model.backbone.weight, source["backbone.weight"])


def test_weights_alone_cannot_be_resumed(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": read_checkpoint(trained / "iter_4.pth")["state_dict"]}, file)
    runner = build_runner(toy_config(tmp_path, resume=True, load_from=str(file)))
    with pytest.raises(InputError, match="no meta, message_hub, optimizer.*set load_from"):
        runner.train()


def test_averaged_weights_survive_resuming(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    changes = {"custom_hooks": [{"type": "EMAHook"}]}
    build_runner(toy_config(whole, **changes)).train()
    build_runner(toy_config(parts, **changes, **{"train_cfg.max_iters": 2})).train()
    build_runner(toy_config(parts, **changes, resume=True)).train()
    expected, found = (
        read_checkpoint(folder / "iter_4.pth")["ema_state_dict"] for folder in (whole, parts)
    )
    assert found["steps"] == 4
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_epochs_run_and_resume_as_in_mmengine(tmp_path: Path) -> None:
    for epochs in (1, 2):
        changes = {
            "train_dataloader.sampler": {"type": "DefaultSampler"},
            "default_hooks.checkpoint": {
                "type": "mmbeit3.CheckpointHook",
                "by_epoch": True,
                "interval": 1,
            },
            "optim_wrapper.accumulative_counts": 2,
        }
        cfg = toy_config(tmp_path, **changes, resume=epochs == 2)
        cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": epochs}
        runner = build_runner(cfg)
        runner.train()
    assert runner.epoch == 2 and runner.iter == 8
    assert (tmp_path / "last_checkpoint").read_text().endswith("epoch_2.pth")
    assert int(next(iter(runner.optim_wrapper.optimizer.state.values()))["step"]) == 4


def test_a_loss_without_terms_is_watched_too(tmp_path: Path) -> None:
    runner = build_runner(toy_config(tmp_path))
    forward = runner.model.forward
    runner.model.forward = lambda **data: {"loss": forward(**data)["loss"] * float("nan")}
    with pytest.raises(InputError, match="iteration 1, process 0: loss is nan"):
        runner.train()
