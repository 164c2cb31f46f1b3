"""Two processes, of which one has a reason to stop: both must, and nothing may be lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
import torch

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.engine import data_order
from mmbeit3.engine.data_order import InfiniteSampler

HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE), str(HERE.parents[1])])


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(rank: str, port: str, *arguments: str) -> subprocess.Popen:
    """Start one of two processes as a launcher would, which would import torch for itself first."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS, "LOCAL_WORLD_SIZE": "2"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder of the trainings, and how each ended in each process."""
    folder = tmp_path_factory.mktemp("stopping")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_order, "get_dist_info", lambda: (1, 2))
        order = list(islice(InfiniteSampler(range(22), 4, seed=5), 4 * 3))
    seen_by_the_second = str(int(order[-1]))
    arguments = [str(HERE / "stopping.py"), str(folder), seen_by_the_second]
    port = free_port()
    processes = [start(rank, port, *arguments) for rank in "01"]
    try:
        with ThreadPoolExecutor() as readers:  # none waits until its output is read
            texts = list(
                readers.map(lambda process: process.communicate(timeout=240)[0], processes)
            )
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text[-4000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_bad_loss_of_one_stops_both(ends: tuple) -> None:
    folder, (first, second) = ends
    assert "InputError: iteration 4, process 1: loss_size is nan" in first["nan"]
    assert f"the last good checkpoint is {folder / 'nan' / 'iter_2.pth'}" in first["nan"]
    assert second["nan"] == "SystemExit: 0"


def test_a_sample_of_one_stops_both_and_is_named(ends: tuple) -> None:
    folder, (first, second) = ends
    assert "InputError: the training sample" in first["fails"]
    assert "is gone" in first["fails"] and "last good checkpoint" in first["fails"]
    assert second["fails"] == "SystemExit: 0"
    assert list((folder / "fails").glob("iter_*.pth"))


@pytest.mark.parametrize("kind", ["stop", "sharded stop"])
def test_a_signal_to_one_saves_and_ends_both(ends: tuple, kind: str) -> None:
    _, (first, second) = ends
    for end in (first[kind], second[kind]):
        assert end.startswith("Terminated: told to end after iteration 5: the last good checkpoint")


def test_what_was_stopped_ends_as_what_was_not(ends: tuple) -> None:
    folder, (first, second) = ends
    assert first["sharded"] == second["sharded"] == first["ddp"] == second["ddp"] == "done"
    one, other = (read_checkpoint(folder / kind / "iter_8.pth") for kind in ("ddp", "sharded"))
    for part in ("state_dict", "ema_state_dict"):
        for name, value in one[part].items():
            # Statistics over the batch are those of the first process, before and after resuming.
            if "running" not in name:
                torch.testing.assert_close(other[part][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "saved"), [("train", 5), ("val", 4)])
def test_the_others_end_when_one_is_killed(tmp_path: Path, place: str, saved: int) -> None:
    """Without a launcher that would end them, as under Slurm."""
    port = free_port()
    first, second = (
        start(rank, port, str(HERE / "losing.py"), str(tmp_path), place) for rank in "01"
    )
    try:
        second.communicate(timeout=180)
        text, _ = first.communicate(timeout=60)
    finally:
        for process in (first, second):
            process.kill()
    assert (second.returncode, first.returncode) == (-signal.SIGKILL, 2)
    assert "error: another process of the training has ended, seen by process 0" in text
    assert f"iter_{saved}.pth; resume goes on from it" in text and "Traceback" not in text
    assert (tmp_path / f"iter_{saved}.pth").exists()
