from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
        print("pids", *[worker.pid for worker in batches._workers], flush=True)
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
