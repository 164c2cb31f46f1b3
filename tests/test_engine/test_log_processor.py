"""What one watches of a training, in the terminal; every value in the log file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.engine import build_runner

from .toy import config

TIME = re.compile(r"^\d\d/\d\d \d\d:\d\d:\d\d ")


def shown(text: str) -> list[str]:
    """The first lines of what was logged, without their times."""
    return [TIME.sub("", line) for line in text.splitlines() if TIME.match(line)]


def logged(cfg: Config) -> str:
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    return log.read_text()


def test_a_training_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(tmp_path, max_iters=4, visualizer=None)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    build_runner(cfg).train()
    lines = shown(capsys.readouterr().out)
    (last,) = (line for line in lines if line.startswith("iteration 4/4"))
    assert re.fullmatch(
        r"iteration 4/4  loss [\d.]+  lr \d\.\d\de-02  [\de.+]+ images/s  0:00:00 left  "
        r"[\d.]+ GiB",
        last,
    )
    (full,) = (line for line in logged(cfg).splitlines() if "Iter(train) [4/4]" in line)
    for name in ("loss_cls", "loss_size", "data_time", "grad_norm", "max_lr", "images_per_s"):
        assert name in full and name not in "".join(lines)
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    values = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert {"loss_cls", "loss_size", "data_time", "grad_norm"} <= values[0].keys()


def test_a_validation_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(tmp_path, max_iters=4, val_dataloader__num_workers=0)
    build_runner(cfg).train()
    lines = shown(capsys.readouterr().out)
    (line,) = (line for line in lines if line.startswith("validation after"))
    assert re.fullmatch(r"validation after iteration 4: accuracy [01]\.\d{4}", line)
    assert "Iter(val) [6/6]    accuracy: " in logged(cfg)
    steps = [line for line in lines if re.match(r"validation [1-6]/6  0:00:0\d left$", line)]
    assert len(steps) == 6


def test_a_training_by_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(tmp_path)
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
    cfg.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    cfg.default_hooks.checkpoint.by_epoch = True
    cfg.param_scheduler, cfg.custom_hooks = None, None
    cfg.pop("log_processor")
    build_runner(cfg).train()
    lines = shown(capsys.readouterr().out)
    assert any(line.startswith("epoch 2/2, iteration 6/6  loss ") for line in lines)
    assert any(line.startswith("validation after epoch 2: accuracy ") for line in lines)


def test_a_config_may_have_the_lines_of_mmengine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = config(tmp_path, max_iters=4, log_processor__type="LogProcessor")
    build_runner(cfg).train()
    assert any("loss_cls: " in line for line in shown(capsys.readouterr().out))


BAR = """
import sys
from pathlib import Path
from toy import config
from mmbeit3.engine import build_runner
cfg = config(Path(sys.argv[1]), max_iters=8, train_dataloader__num_workers=1)
build_runner(cfg).train()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of POSIX")
def test_a_bar_in_a_terminal(tmp_path: Path) -> None:
    parent, child = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BAR, str(tmp_path)],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    written = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while part := os.read(parent, 65536):
            written += part
    os.close(parent)
    assert process.wait() == 0, written.decode()
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.decode())
    assert re.search(r"train [━╸╺ ]+ +\d/8 ", text) and re.search(
        r"validation [━╸╺ ]+ +\d/6 ", text
    )
    assert "iteration 8/8  loss" in text and "validation after iteration 8: accuracy" in text
    assert "\nvalidation 6/6" not in text  # the bar says it
    assert written.count(b"\x1b[?25l") == written.count(b"\x1b[?25h")  # the cursor is back
