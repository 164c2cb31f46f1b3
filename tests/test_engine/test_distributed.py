"""Starting processes: what is refused, and what one process does alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import distributed

from mmbeit3.engine import distributed as ours
from mmbeit3.engine.distributed import init_distributed
from mmbeit3.utils import InputError
from mmbeit3.utils.collective import broadcast_from_rank0, run_on_all_ranks

VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    *(name for pair in ours.LOCAL_VARIABLES.values() for name in pair),
)
Setting = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Sets the number of GPUs and what the launcher put into the environment."""

    def machine(gpus: int, **environment: object) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))

    return machine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What mmengine was asked to start."""
    calls: list[tuple] = []
    monkeypatch.setattr(ours, "init_dist", lambda *args, **kwargs: calls.append((args, kwargs)))
    return calls


def test_a_single_process_starts_nothing(started: list[tuple]) -> None:
    init_distributed("none")
    assert not started and not distributed.is_initialized()


def test_gpus_are_left_to_mmengine(machine: Setting, started: list[tuple]) -> None:
    machine(2, RANK=3, WORLD_SIZE=4, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2)
    init_distributed("pytorch", timeout=60)
    assert started == [(("pytorch", "nccl"), {"timeout": 60})]


@pytest.mark.parametrize("launcher", ["pytorch", "slurm", "mpi"])
def test_processes_that_no_launcher_started(launcher: str, machine: Setting) -> None:
    machine(1, LOCAL_RANK=0)  # tools/test.py sets it itself
    program = ours.STARTED_BY[launcher]
    with pytest.raises(InputError, match=f"start them by {program}, or leave it out"):
        init_distributed(launcher)


def test_more_processes_than_gpus(machine: Setting, started: list[tuple]) -> None:
    machine(2, RANK=0, WORLD_SIZE=3, LOCAL_RANK=0, LOCAL_WORLD_SIZE=3)
    with pytest.raises(InputError, match=r"3 processes on this machine, and each sees 2 GPU\(s\)"):
        init_distributed("pytorch")
    machine(2, RANK=1, WORLD_SIZE=3, LOCAL_RANK=1, LOCAL_WORLD_SIZE=3)
    with pytest.raises(SystemExit) as left:  # the first has said it
        init_distributed("pytorch")
    assert left.value.code == 0
    machine(1, SLURM_LOCALID=1)  # srun does not say how many there are
    with pytest.raises(InputError, match="--gres=gpu:N, not --gpus-per-task"):
        init_distributed("slurm")
    assert not started


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
def test_without_gpu_torchrun_alone(launcher: str, machine: Setting) -> None:
    machine(0, **{ours.LOCAL_VARIABLES[launcher][0]: 0})
    with pytest.raises(InputError, match="on the CPU start the processes by torchrun"):
        init_distributed(launcher)


@pytest.fixture
def alone_in_a_group(machine: Setting) -> Iterator[None]:
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    machine(0, RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, LOCAL_WORLD_SIZE=1, **port)
    init_distributed("pytorch", timeout=30)
    yield
    distributed.destroy_process_group()


def test_on_the_cpu_nccl_becomes_gloo(alone_in_a_group: None) -> None:
    assert distributed.get_backend() == "gloo"
    init_distributed("pytorch")  # once is enough
    assert run_on_all_ranks(os.getpid) == broadcast_from_rank0(os.getpid) == os.getpid()


def test_errors_come_through(alone_in_a_group: None) -> None:
    with pytest.raises(ZeroDivisionError):
        run_on_all_ranks(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        broadcast_from_rank0(lambda: 1 // 0)


def test_without_a_group_functions_are_just_called() -> None:
    assert run_on_all_ranks(lambda: 1) == broadcast_from_rank0(lambda: 1) == 1
