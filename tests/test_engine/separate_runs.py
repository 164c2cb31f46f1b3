"""Runs of one process beside the same runs in processes of their own: separate_runs.py FOLDER.

Each run writes what must not depend on its surroundings to FOLDER/{alone,together}/NAME.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DefaultScope
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmbeit3.apis.testing import test
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.utils import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.test_engine.toy import config  # noqa: E402

BACKENDS = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]
# Different data, seeds and settings of the process; the third fails.
RUNS: dict[str, dict[str, Any]] = {
    "first": {"randomness": {"seed": 1, "deterministic": True}},
    "second": {
        "randomness": {"seed": 2},
        "train_dataloader__dataset__num": 30,
        "env_cfg": {"cudnn_benchmark": True},
    },
    "fails": {"randomness": {"seed": 3}, "model__nan_at": 5},
    "last": {"randomness": {"seed": 4}, "train_dataloader__num_workers": 1},
}
TIMES = re.compile(r"(eta|time|data_time|images_per_s|memory): \S+")
TIMED = ("time", "data_time", "images_per_s", "memory", "eta")


def toy(folder: Path, name: str) -> Any:
    cfg = config(folder / name, **RUNS[name])
    cfg.experiment_name = "the_same"
    cfg.visualizer = {"type": "Visualizer", "name": "visualizer", "vis_backends": BACKENDS}
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = {}
    return cfg


def run(folder: Path, name: str) -> None:
    cfg = toy(folder, name)
    before = cfg.pretty_text
    try:
        train(cfg)
    except InputError:
        assert name == "fails"
    else:
        test(cfg, folder / name / "iter_8.pth")
    assert cfg.pretty_text == before


def state_of_process() -> dict[str, Any]:
    return {
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.initial_seed()),
        "torch": (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()),
        "signals": [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT)],
        "scope": DefaultScope.get_current_instance(),
    }


def contents(folder: Path) -> dict[str, Any]:
    """Everything of a run's folder that its surroundings must not change."""
    found: dict[str, Any] = {"files": []}
    stamps = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for number, stamp in enumerate(stamps):
        log = (folder / stamp / f"{stamp}.log").read_text()
        lines = [line.partition(" - INFO - ")[2] for line in log.splitlines() if "INFO" in line]
        found[f"{number} log"] = [
            TIMES.sub("", line).replace(stamp, "")
            for line in lines
            if line.startswith(("Iter(", "best ", "Exp name"))
        ]
        scalars = folder / stamp / "vis_data" / "scalars.json"
        for line in scalars.read_text().splitlines() if scalars.is_file() else ():
            entry = json.loads(line)
            found.setdefault(f"{number} scalars", []).append(
                {key: value for key, value in entry.items() if key not in TIMED}
            )
        events = EventAccumulator(str(folder / stamp / "vis_data"))
        events.Reload()
        found[f"{number} curves"] = {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
            if tag.rpartition("/")[2] not in TIMED
        }
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        for number, stamp in reversed([*enumerate(stamps)]):  # one may begin as another
            name = name.replace(stamp, str(number))
        found["files"].append(name.partition(".tfevents.")[0].replace("events.out", "events"))
    return found


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name in RUNS:  # before any run of this process
        if (child := os.fork()) == 0:
            run(folder / "alone", name)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, name
    before = state_of_process()
    for name in RUNS:
        run(folder / "together", name)
        assert state_of_process() == before, name
    for name in RUNS:
        alone, together = (contents(folder / kind / name) for kind in ("alone", "together"))
        for part, expected in alone.items():
            assert together[part] == expected, (name, part, together[part], expected)
        for file in (folder / "alone" / name).glob("*.pth"):
            one, other = (
                read_checkpoint(folder / kind / name / file.name) for kind in ("alone", "together")
            )
            for key, value in one["state_dict"].items():
                assert torch.equal(other["state_dict"][key], value), (name, file.name, key)
    print("equal", time.process_time())


if __name__ == "__main__":
    main()
