"""Trainings and tests whose logs cannot be written for a while, or until the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import sys
    from pathlib import Path
    from toy import config
    from mmbeit3.commands.console import run
    from mmbeit3.engine import build_runner
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS

    mount, until = Path(sys.argv[1]), int(sys.argv[2])

    @HOOKS.register_module()
    class Fill(Hook):
        priority = "VERY_HIGH"
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 12:
                with (mount / "ballast").open("wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(512))
                    except OSError:
                        pass
            if batch_idx == until:
                (mount / "ballast").unlink()

    cfg = config(mount, max_iters=80, custom_hooks=[dict(type="Fill")], randomness__seed=0,
                 default_hooks__checkpoint__interval=10)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[
        dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
    cfg.log_level = "INFO"
    run(lambda: build_runner(cfg).train() and None)
"""


def train(mount: Path, until: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(mount), str(until)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture
def mount(tmp_path: Path):
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("until", [65, 100])
def test_a_disk_of_one_megabyte_fills_in_a_training(mount: Path, until: int) -> None:
    done = train(mount, until)
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    assert "scalars.json cannot be written (No space left on device)" in text
    assert "iter_20.pth cannot be written (No space left on device)" in text
    (log,) = mount.glob("*/*.log")
    lines = (next(mount.glob("*/vis_data/scalars.json"))).read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
    if until == 100:
        assert done.returncode == 2 and f"the last good checkpoint is {mount}/iter_1" in text
        assert steps == list(range(1, len(steps) + 1))
        return
    assert done.returncode == 0, text
    assert steps == list(range(1, 81))
    assert "Iter(train) [80/80]" in log.read_text()
    assert (mount / "iter_80.pth").is_file()
