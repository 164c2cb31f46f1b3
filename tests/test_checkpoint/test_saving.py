from __future__ import annotations

import hashlib
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmbeit3.checkpoint import read_checkpoint, saving, state_dict_of
from mmbeit3.checkpoint.safetensors_files import CRC_KEY
from mmbeit3.checkpoint.saving import publish_checkpoint, save_checkpoint
from mmbeit3.engine import Runner
from mmbeit3.inference.detector import checkpoint_classes
from mmbeit3.utils import InputError

SUFFIXES = [".pth", ".safetensors"]
WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2).half()}
META = {"iter": 7, "dataset_meta": {"classes": ("cat", "dog"), "palette": [(1, 2, 3), (4, 5, 6)]}}
CONTENT = {"meta": META, "state_dict": WEIGHTS}
OLD = b"an older file"


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Saving


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_written_into_a_new_folder_and_read_back(suffix: str, tmp_path: Path) -> None:
    path = save_checkpoint(CONTENT, tmp_path / "a" / "b" / f"w{suffix}")
    found = read_checkpoint(path)
    assert_same(found["state_dict"], WEIGHTS)
    assert found["meta"]["iter"] == 7
    assert list(found["meta"]["dataset_meta"]["classes"]) == ["cat", "dog"]
    assert os.listdir(path.parent) == [path.name]


def test_safetensors_takes_views_shared_tensors_and_other_strides(tmp_path: Path) -> None:
    table = torch.randn(4, 6)
    state = {
        "whole": table,
        "rows": table[1:],
        "again": table,
        "turned": table.mT,
        "x": table[0, 0],
        "far": table.reshape(-1)[3::24],
    }
    path = save_checkpoint({"model": state}, tmp_path / "w.safetensors")
    assert_same(read_checkpoint(path)["state_dict"], state)
    with safe_open(path, framework="pt") as file:
        assert set(file.metadata()) == {"format", CRC_KEY}


def test_a_meta_of_any_types_becomes_json(tmp_path: Path) -> None:
    meta = {
        "palette": np.array([[1, 2], [3, 4]]),
        "count": np.int64(3),
        "thing": Path("a/b"),
        "tensor": torch.tensor([1, 2]),
    }
    path = save_checkpoint({"meta": meta, "state_dict": WEIGHTS}, tmp_path / "w.safetensors")
    found = read_checkpoint(path)["meta"]
    assert found == {"palette": [[1, 2], [3, 4]], "count": 3, "thing": "a/b", "tensor": [1, 2]}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(suffix: str, mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        saved = save_checkpoint(CONTENT, tmp_path / f"w{suffix}")
        published = publish_checkpoint(saved, tmp_path / f"p{suffix}").path
    finally:
        os.umask(before)
    assert mode(saved) == mode(published) == 0o666 & ~mask


@pytest.mark.parametrize("name", ["w.pt", "w", "w.pth.tmp"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a checkpoint is written as \.pth or \.safetensors"):
        save_checkpoint(CONTENT, tmp_path / name)
    with pytest.raises(InputError, match=r"a checkpoint is written as \.pth or \.safetensors"):
        publish_checkpoint(tmp_path / "not even there.pth", tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_rounds_floats_alone(suffix: str, tmp_path: Path) -> None:
    weights = {"a": torch.randn(7, 501), "b": torch.randn(9).double(), "steps": torch.tensor(70001)}
    source = save_checkpoint({"state_dict": weights}, tmp_path / "source.pth")
    whole = publish_checkpoint(source, tmp_path / f"whole{suffix}").path
    path = publish_checkpoint(source, tmp_path / f"half{suffix}", half=True).path
    found = state_dict_of(read_checkpoint(path))
    assert path.stat().st_size < 0.6 * whole.stat().st_size
    assert found["steps"] == weights["steps"] and found["steps"].dtype == torch.int64
    for name in "ab":
        assert found[name].dtype == torch.float16
        assert torch.equal(found[name], weights[name].to(torch.float16))
    layer = torch.nn.Linear(501, 7)
    layer.load_state_dict({"weight": found["a"], "bias": torch.zeros(7)})
    assert layer.weight.dtype == torch.float32


def test_half_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    weights = {"small": torch.ones(3), "large": torch.tensor([1.0, -70_000.0])}
    source = save_checkpoint({"state_dict": weights}, tmp_path / "source.pth")
    with pytest.raises(InputError, match=r"large of .* 7e\+04; float16 ends at 65504"):
        publish_checkpoint(source, tmp_path / "half.pth", half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


# Failing


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """Let the system refuse to make a file larger than ``size`` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1000, 200_000, 300_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_older_file_and_no_part(
    suffix: str, room: int, tmp_path: Path
) -> None:
    source = tmp_path / "source.pth"
    torch.save({"state_dict": {"a": torch.zeros(60_000), "b": torch.zeros(60_000)}}, source)
    content, target = read_checkpoint(source), tmp_path / f"w{suffix}"
    target.write_bytes(OLD)
    message = rf"{target.name} cannot be written \(File too large\): make room there"
    with disk_with_room_for(room), pytest.raises(InputError, match=message):
        save_checkpoint(content, target)
    with disk_with_room_for(room), pytest.raises(InputError, match=message):
        publish_checkpoint(source, target)
    assert target.read_bytes() == OLD
    assert sorted(os.listdir(tmp_path)) == sorted(["source.pth", target.name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_place_that_takes_no_file_is_named(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / f"folder{suffix}").mkdir()
    source = save_checkpoint(CONTENT, tmp_path / "source.pth")
    for target in (tmp_path / "file" / f"w{suffix}", tmp_path / "file" / "deeper" / f"w{suffix}"):
        with pytest.raises(InputError, match=f"w{suffix} cannot be written"):
            save_checkpoint(CONTENT, target)
        with pytest.raises(InputError, match=f"w{suffix} cannot be written"):
            publish_checkpoint(source, target)
    with pytest.raises(InputError, match=f"folder{suffix} cannot be written .Is a directory"):
        save_checkpoint(CONTENT, tmp_path / f"folder{suffix}")
    assert len(os.listdir(tmp_path)) == 3 and (tmp_path / "file").read_bytes() == OLD


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_without_write_permission_is_named(suffix: str, tmp_path: Path) -> None:
    source = save_checkpoint(CONTENT, tmp_path / "source.pth")
    tmp_path.chmod(0o555)
    for target in (tmp_path / f"w{suffix}", tmp_path / "new" / f"w{suffix}"):
        with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
            save_checkpoint(CONTENT, target)
        with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
            publish_checkpoint(source, target)
    assert os.listdir(tmp_path) == ["source.pth"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interruption_leaves_the_older_file_and_no_part(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_checkpoint(CONTENT, tmp_path / "source.pth")
    (tmp_path / f"w{suffix}").write_bytes(OLD)

    def interrupted(_content: object, path: Path, _suffix: str) -> None:
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(CONTENT, tmp_path / f"w{suffix}")
    with pytest.raises(KeyboardInterrupt):
        publish_checkpoint(source, tmp_path / f"w{suffix}")
    assert (tmp_path / f"w{suffix}").read_bytes() == OLD
    assert sorted(os.listdir(tmp_path)) == sorted(["source.pth", f"w{suffix}"])


def test_a_programming_error_keeps_its_type_and_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, TypeError)):
        save_checkpoint({"state_dict": WEIGHTS, "extra": lambda: None}, tmp_path / "w.pth")
    assert not os.listdir(tmp_path)


# Publishing


@MODELS.register_module(force=True)
class PublishedToy(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        assert mode == "loss"
        return {"loss": self.layer(inputs).square().mean()}


@DATASETS.register_module(force=True)
class PublishedToyData(Dataset):
    metainfo = {"classes": ("cat", "dog"), "palette": [(220, 20, 60), (119, 11, 32)]}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": torch.full((4,), index / 8.0)}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The Runner of two iterations of training with averaged weights; it wrote iter_2.pth."""
    cfg = Config(
        {
            "model": {"type": "PublishedToy"},
            "work_dir": str(tmp_path_factory.mktemp("trained")),
            "experiment_name": "published_toy",
            "train_dataloader": {
                "dataset": {"type": "PublishedToyData"},
                "batch_size": 4,
                "num_workers": 0,
                "collate_fn": {"type": "default_collate"},
                "sampler": {"type": "mmbeit3.InfiniteSampler"},
            },
            "train_cfg": {"type": "mmbeit3.TrainLoop", "max_iters": 2},
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.1}},
            "param_scheduler": [{"type": "LinearLR", "by_epoch": False, "end": 4}],
            "default_hooks": {
                "checkpoint": {"type": "mmbeit3.CheckpointHook", "by_epoch": False, "interval": 2}
            },
            "custom_hooks": [{"type": "EMAHook", "momentum": 0.5}],
            "log_processor": {"by_epoch": False},
            "log_level": "WARNING",
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture
def trained(runner: Runner) -> Path:
    return Path(runner.work_dir, "iter_2.pth")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_publishing_a_training_keeps_weights_and_meta_only(
    trained: Path, suffix: str, tmp_path: Path
) -> None:
    before = trained.read_bytes()
    path, dropped = publish_checkpoint(trained, tmp_path / "models" / f"toy{suffix}")
    source, found = read_checkpoint(trained), read_checkpoint(path)
    assert set(dropped) == {"message_hub", "optimizer", "param_schedulers", "ema_state_dict"}
    assert set(source) == {*found, *dropped} and set(found) == {"meta", "state_dict"}
    assert_same(found["state_dict"], source["state_dict"])
    assert found["meta"]["cfg"] == source["meta"]["cfg"] and "PublishedToy" in found["meta"]["cfg"]
    assert found["meta"]["iter"] == 2
    assert found["meta"]["mmengine_version"] == source["meta"]["mmengine_version"]
    assert found["meta"]["dataset_meta"] == {
        "classes": ["cat", "dog"],
        "palette": [[220, 20, 60], [119, 11, 32]],
    }
    assert trained.read_bytes() == before
    assert os.listdir(tmp_path / "models") == [path.name]


def test_the_published_weights_are_the_averaged_ones(
    runner: Runner, trained: Path, tmp_path: Path
) -> None:
    (averaged,) = (hook.ema_model.module for hook in runner.hooks if hasattr(hook, "ema_model"))
    found = read_checkpoint(publish_checkpoint(trained, tmp_path / "toy.pth").path)["state_dict"]
    assert_same(found, dict(averaged.state_dict()))
    assert not torch.equal(found["layer.weight"], runner.model.layer.weight)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_inference_finds_the_classes_of_a_published_file(
    trained: Path, suffix: str, tmp_path: Path
) -> None:
    meta = read_checkpoint(publish_checkpoint(trained, tmp_path / f"toy{suffix}").path)["meta"]
    dataset = {"type": "mmbeit3.CocoDataset", "ann_file": "not on this machine.json"}
    model = {"roi_head": {"bbox_head": {"num_classes": 80}}}
    cfg = Config({"model": model, "test_dataloader": {"dataset": dataset}})
    assert checkpoint_classes(cfg, meta) == ("cat", "dog")
    assert cfg.model.roi_head.bbox_head.num_classes == 2


def test_a_published_pth_opens_with_torch_alone(trained: Path, tmp_path: Path) -> None:
    found = torch.load(publish_checkpoint(trained, tmp_path / "toy.pth").path, weights_only=True)
    assert_same(found["state_dict"], read_checkpoint(trained)["state_dict"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_name_carries_the_start_of_the_files_own_sha256(
    trained: Path, suffix: str, tmp_path: Path
) -> None:
    path = publish_checkpoint(trained, tmp_path / f"toy{suffix}").path
    assert path == tmp_path / f"toy-{sha256(path)[:8]}{suffix}"


def test_torch_hub_accepts_the_name_as_a_hash(trained: Path, tmp_path: Path) -> None:
    path = publish_checkpoint(trained, tmp_path / "toy.pth").path
    options = {"check_hash": True, "progress": False, "weights_only": True}
    cache = tmp_path / "cache"
    content = torch.hub.load_state_dict_from_url(path.as_uri(), str(cache), **options)
    assert_same(content["state_dict"], read_checkpoint(path)["state_dict"])
    path.write_bytes(path.read_bytes() + b"0")
    (cache / path.name).unlink()
    with pytest.raises(RuntimeError, match="invalid hash value"):
        torch.hub.load_state_dict_from_url(path.as_uri(), str(cache), **options)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_content_has_the_same_hash_whatever_its_names(
    trained: Path, suffix: str, tmp_path: Path
) -> None:
    old_format = tmp_path / "old format.pth"
    content = read_checkpoint(trained)
    del content["optimizer"], content["ema_state_dict"]
    torch.save(content, old_format, _use_new_zipfile_serialization=False)
    sources = [trained, old_format, *[trained] * 6]
    paths = [
        publish_checkpoint(source, tmp_path / str(index) / f"{'name' * index}x{suffix}").path
        for index, source in enumerate(sources)
    ]
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({path.stem.rpartition("-")[2] for path in paths}) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_publishing_again_replaces_the_hash(trained: Path, suffix: str, tmp_path: Path) -> None:
    first = publish_checkpoint(trained, tmp_path / f"beit3-base{suffix}").path
    before = first.read_bytes()
    again = publish_checkpoint(first, first)
    assert again == (first, []) and first.read_bytes() == before
    assert os.listdir(tmp_path) == [first.name]

    content = read_checkpoint(first)
    content["state_dict"] = {name: value + 1 for name, value in content["state_dict"].items()}
    other = publish_checkpoint(save_checkpoint(content, tmp_path / "other.pth"), first).path
    assert other.name == f"beit3-base-{sha256(other)[:8]}{suffix}"
    assert other != first and first.read_bytes() == before


def test_a_name_that_only_looks_like_a_hash_stays(trained: Path, tmp_path: Path) -> None:
    for name in ("base-cafe", "base-1a2b3c4d5", "base_1a2b3c4d", "base-1A2B3C4D"):
        path = publish_checkpoint(trained, tmp_path / f"{name}.pth").path
        assert path.name == f"{name}-{sha256(path)[:8]}.pth"


@pytest.mark.parametrize(
    ("content", "dropped"),
    [
        (WEIGHTS, []),
        (WEIGHTS | {"epoch": 3}, ["epoch"]),
        ({"model": WEIGHTS, "optimizer": {}, "epoch": 3}, ["optimizer", "epoch"]),
        ({"state_dict": WEIGHTS, "model": {"other": torch.ones(1)}}, ["model"]),
        ({"state_dict": WEIGHTS, "threshold": torch.ones(1)}, ["threshold"]),
    ],
)
def test_everything_left_out_is_named(content: dict, dropped: list[str], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "source.pth")
    published = publish_checkpoint(tmp_path / "source.pth", tmp_path / "w.pth")
    assert published.dropped == dropped
    assert_same(read_checkpoint(published.path)["state_dict"], WEIGHTS)


class Command:
    """Makes a folder where it is unpickled; printed, it is a word."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_code_in_the_source_runs_only_on_trust_and_does_not_go_on(
    suffix: str, tmp_path: Path
) -> None:
    source, marker = tmp_path / "evil.pth", tmp_path / "ran"
    meta = META | {"args": Command(marker)}
    torch.save({"meta": meta, "state_dict": WEIGHTS}, source)
    with pytest.raises(InputError, match=r"evil.pth wants to build '\w+.mkdir'.*--trust"):
        publish_checkpoint(source, tmp_path / f"w{suffix}")
    assert os.listdir(tmp_path) == ["evil.pth"]
    path = publish_checkpoint(source, tmp_path / f"w{suffix}", trust=True).path
    assert marker.is_dir()
    marker.rmdir()
    found = read_checkpoint(path)
    assert found["meta"]["dataset_meta"]["classes"] == ["cat", "dog"]
    assert_same(found["state_dict"], WEIGHTS)
    assert not marker.exists()
