"""Any number of runs in one process, each as if it were alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger, print_log

from mmbeit3.engine import build_runner

from .toy import config


@pytest.mark.slow
def test_runs_of_one_process_equal_those_of_their_own(tmp_path: Path) -> None:
    script = Path(__file__).with_name("separate_runs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-6000:]
    assert "equal" in done.stdout


def toy_runner(work_dir: Path, **changes: Any) -> Any:
    cfg = config(work_dir, max_iters=2, **changes)
    cfg.experiment_name = "the_same"
    cfg.visualizer = {
        "type": "Visualizer",
        "name": "visualizer",
        "vis_backends": [{"type": "LocalVisBackend"}],
    }
    return build_runner(cfg)


def test_runners_that_live_at_once_share_nothing(tmp_path: Path) -> None:
    first, second = (toy_runner(tmp_path / name, randomness__seed=0) for name in ("1", "2"))
    assert first.timestamp != second.timestamp
    for runner in (first, second):  # after both were built
        runner.train()
        print_log("a line of this run", "current")
        scalars = Path(runner.log_dir) / "vis_data" / "scalars.json"
        assert len(scalars.read_text().splitlines()) == 3
        assert Path(runner.logger.log_file).read_text().count("a line of this run") == 1
        assert len(runner.message_hub.log_scalars["train/grad_norm"].data[0]) == 2
        assert MessageHub.get_current_instance() is runner.message_hub
        assert MMLogger.get_current_instance() is runner.logger
    one, other = (
        runner.message_hub.log_scalars["train/loss"].data[0] for runner in (first, second)
    )
    assert one.tolist() == other.tolist()


def test_runs_in_the_same_folder_and_second_have_folders_of_their_own(tmp_path: Path) -> None:
    runners = [toy_runner(tmp_path) for _ in range(3)]
    assert len({runner.log_dir for runner in runners}) == 3


def test_a_seed_drawn_does_not_follow_from_an_earlier_run(tmp_path: Path) -> None:
    seeds = set()
    for number in range(3):
        np.random.seed(0)  # as a run with a seed leaves it
        seeds.add(toy_runner(tmp_path / str(number)).seed)
    assert len(seeds) == 3


@pytest.mark.parametrize("benchmark", [True, False])
def test_what_a_run_sets_in_torch_ends_with_the_next_one(tmp_path: Path, benchmark: bool) -> None:
    toy_runner(tmp_path / "1", randomness={"seed": 0, "deterministic": True})
    assert torch.are_deterministic_algorithms_enabled()
    toy_runner(tmp_path / "2", env_cfg={"cudnn_benchmark": benchmark})
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark == benchmark
    torch.backends.cudnn.benchmark = False
