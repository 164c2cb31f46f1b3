from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from mmbeit3.engine import Terminated, build_runner
from mmbeit3.engine.data_workers import WorkerLoader
from mmbeit3.utils import InputError

from .toy import Points, config

LARGE = 1_000_000  # bytes of a sample; a pipe holds 64 kB


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """The work inside must take less, and leave no process that was not there."""
    began, others = time.monotonic(), multiprocessing.active_children()
    yield
    assert time.monotonic() - began < seconds
    assert set(multiprocessing.active_children()) <= set(others)


@pytest.fixture
def emulated_pinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's thread for pinned memory, which it starts only where there is an accelerator."""
    device = SimpleNamespace(type="cuda")
    accelerator = pytest.importorskip("torch.accelerator")
    for name, value in {
        "is_available": True,
        "current_accelerator": device,
        "current_device_index": 0,
        "set_device_index": None,
    }.items():
        monkeypatch.setattr(accelerator, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)


def loader(num_workers: int, weight: int = LARGE, **changes: Any) -> WorkerLoader:
    data = Points(
        weight=weight, **{k: changes.pop(k) for k in ("dies", "dies_sending") if k in changes}
    )
    return WorkerLoader(data, batch_size=2, num_workers=num_workers, **changes)


@pytest.mark.parametrize("pin_memory", [False, True])
@pytest.mark.parametrize("persistent_workers", [False, True])
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_half_a_message_ends_the_waiting(
    num_workers: int,
    persistent_workers: bool,
    pin_memory: bool,
    request: pytest.FixtureRequest,
) -> None:
    if pin_memory:
        request.getfixturevalue("emulated_pinning")
    options = {"persistent_workers": persistent_workers, "pin_memory": pin_memory}
    with ends_within(10), pytest.raises(InputError, match=r"read is \d+ \(images/\d+.jpg\)"):
        list(loader(num_workers, dies_sending=9, **options))


@pytest.mark.parametrize(("num_workers", "killed"), [(1, 0), (2, 0), (2, 1), (4, 1), (4, 3)])
def test_a_killed_worker_ends_the_waiting_of_the_others(num_workers: int, killed: int) -> None:
    """One of them has written what the pipe holds and has its lock, the others wait for that."""
    with ends_within(10):
        batches = iter(loader(num_workers))
        time.sleep(0.3)
        os.kill(batches.workers[killed].pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"died \(by SIGKILL\); the last sample that it read"):
            list(batches)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("weight", [0, 30_000, 5 * LARGE])
def test_a_death_while_reading_names_the_sample(num_workers: int, weight: int) -> None:
    with ends_within(10), pytest.raises(InputError) as caught:
        list(loader(num_workers, weight, dies=9))
    assert str(caught.value) == (
        "a data worker of the dataloader died (by SIGKILL); the last sample that it read is 9 "
        "(images/9.jpg). A worker that is killed has mostly run out of main memory: lower the "
        "dataloader.num_workers"
    )


def test_a_loader_of_torch_used_before_does_not_change_what_is_raised() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    try:
        list(DataLoader([0.0, 1.0], num_workers=1))  # puts in torch's handler, which raises
        with ends_within(10), pytest.raises(InputError, match="the last sample that it read is 9"):
            list(loader(2, dies=9))
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def test_a_persistent_worker_that_dies_between_passes_is_noticed() -> None:
    batches = loader(2, persistent_workers=True)
    assert len(list(batches)) == len(list(batches)) == 11
    workers = next(iter(multiprocessing.active_children()))
    workers.kill()
    workers.join()
    with ends_within(10), pytest.raises(InputError, match="SIGKILL"):
        list(batches)
    assert len(list(batches)) == 11  # with others
    iter(batches).close()


def test_workers_end_at_once_where_a_cycle_of_references_is_collected() -> None:
    batches = loader(2, weight=1, persistent_workers=True)
    assert len(list(batches)) == 11
    batches.itself = batches
    with ends_within(2):
        del batches
        gc.collect()


@pytest.mark.slow
def test_a_worker_that_leaves_quietly_is_named() -> None:
    class Leaves(Points):
        def __getitem__(self, index: int) -> Any:
            return sys.exit(0) if index == 5 else super().__getitem__(index)

    with ends_within(20), pytest.raises(InputError, match=r"\(with status 0\).* is 5 \(images/5"):
        list(WorkerLoader(Leaves(weight=LARGE), batch_size=1, num_workers=2))


def test_batches_are_those_of_torch() -> None:
    data = [torch.full((3,), i) for i in range(7)]
    for changes in ({}, {"persistent_workers": True, "prefetch_factor": 3}):
        ours = WorkerLoader(data, batch_size=2, num_workers=2, **changes)
        for _ in range(2):
            found = torch.cat(list(ours))
            assert torch.equal(found, torch.stack(data))
        getattr(ours._iterator, "close", lambda: None)()


def train(work_dir: Path, **changes: Any) -> Any:
    changes = {
        "train_dataloader__dataset__weight": LARGE,
        "val_dataloader__num_workers": 2,
    } | changes
    cfg = config(work_dir, randomness__seed=0, train_dataloader__num_workers=2, **changes)
    return build_runner(cfg).train()


ACCUMULATING = {"optim_wrapper__accumulative_counts": 3}


@pytest.mark.parametrize("changes", [{}, ACCUMULATING], ids=["plain", "accumulating"])
@pytest.mark.parametrize("in_validation", [False, True])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_to_all_processes_saves(
    tmp_path: Path, number: int, status: int, in_validation: bool, changes: dict[str, Any]
) -> None:
    hook = {"type": "SignalHook", "at": 4, "number": int(number), "in_validation": in_validation}
    before = signal.getsignal(number)
    with ends_within(20), pytest.raises(Terminated, match=r"iter_\d.pth; resume") as caught:
        train(tmp_path, custom_hooks=[hook], **changes)
    assert caught.value.status == status
    assert (tmp_path / ("iter_4.pth" if in_validation else "iter_5.pth")).exists()
    assert signal.getsignal(number) is before


@contextmanager
def signals(number: int, *moments: float) -> Iterator[None]:
    """Send this process a signal after these seconds."""
    timers = [threading.Timer(moment, os.kill, (os.getpid(), number)) for moment in moments]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param(ACCUMULATING, id="accumulating", marks=pytest.mark.slow),
    ],
)
def test_a_sample_that_never_comes_does_not_keep_a_signal_waiting(
    tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    changes = changes | {f"{part}_dataloader__dataset__hangs": 7, "train_cfg__val_interval": 2}
    with ends_within(20), signals(signal.SIGTERM, 4.0), pytest.raises(Terminated):
        train(tmp_path, max_iters=100, **changes)


def test_the_second_interrupt_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(tmp_path, train_dataloader__num_workers=2)
    runner = build_runner(cfg)
    monkeypatch.setattr(runner.model, "train_step", lambda *_, **__: time.sleep(100))
    with ends_within(20), signals(signal.SIGINT, 2.0, 3.0), pytest.raises(KeyboardInterrupt):
        runner.train()


def test_a_worker_of_the_validation_that_dies_costs_nothing(tmp_path: Path) -> None:
    with ends_within(20), pytest.raises(InputError) as caught:
        train(tmp_path, val_dataloader__dataset__dies=9, default_hooks__checkpoint__interval=100)
    message = str(caught.value)
    assert "a data worker of val_dataloader died (by SIGKILL); the last sample" in message
    assert "is 9 (images/9.jpg)" in message and "lower val_dataloader.num_workers" in message
    assert f"the last good checkpoint is {tmp_path / 'iter_4.pth'}; resume" in message
    assert (tmp_path / "iter_4.pth").exists()


def test_a_worker_of_a_test_that_dies_ends_it(tmp_path: Path) -> None:
    loader = config(tmp_path).val_dataloader.to_dict()
    loader |= {"num_workers": 2, "dataset": {"type": "Points", "dies": 9, "weight": LARGE}}
    cfg = config(tmp_path, test_cfg={}, test_evaluator={"type": "Accuracy"})
    cfg.test_dataloader = loader
    with ends_within(20), pytest.raises(InputError, match=r"of test_dataloader died .* is 9 \(im"):
        build_runner(cfg).test()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_workers_of_a_killed_training_are_gone(tmp_path: Path) -> None:
    """The workers have batches that nobody takes: without help they wait for ever."""
    script = """
        import os, sys, time
        from pathlib import Path
        from toy import config
        from mmbeit3.engine import build_runner

        large = dict(train_dataloader__dataset__weight=1_000_000)  # more than a pipe holds
        runner = build_runner(config(Path(sys.argv[1]), train_dataloader__num_workers=2, **large))
        batches = iter(runner.build_train_loop(runner._train_loop).dataloader)
        next(batches)
        print("pids", *[worker.pid for worker in batches.workers], flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    line = next(line for line in process.stdout if line.startswith("pids"))
    pids = [int(pid) for pid in line.split()[1:]]
    assert len(pids) == 2 and all(map(alive, pids))
    time.sleep(0.5)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
