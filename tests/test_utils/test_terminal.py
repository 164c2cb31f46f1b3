"""What of a log a terminal shows, and what the libraries may not put there."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mmbeit3.utils.terminal import LogText, Table, ignore_library_warnings, shorten

ENVIRONMENT = f"\n{'-' * 60}\nSystem environment:\n    sys.platform: linux\n"
FOR_THE_FILE = [
    ENVIRONMENT,
    "Config:\nmodel = dict()",
    "Hooks will be executed in the following order:\nbefore_run:",
    "Distributed training is not used, all SyncBatchNorm (SyncBN) layers",
    "Checkpoints will be saved to work_dirs/a.",
]
NOISE = [
    '"FileClient" will be deprecated in future. Please use io functions in ...',
    '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated in future.',
    "The prefix is not set in metric class IoUMetric.",
]


def make_logger() -> logging.Logger:
    logger = logging.Logger("a test")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    return logger


@pytest.mark.parametrize("text", FOR_THE_FILE)
def test_what_is_for_the_file(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shorten(logger := make_logger())
    logger.info(text)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", NOISE)
def test_noise_of_the_libraries(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shorten(logger := make_logger())
    logger.warning(text)
    logger.warning("the backbone starts from random weights")
    assert capsys.readouterr().out[15:] == "warning: the backbone starts from random weights\n"


def test_short_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = make_logger()
    logger.addHandler(logging.FileHandler(tmp_path / "log"))
    terminal = shorten(logger)
    assert shorten(logger) is terminal
    logger.info(LogText("loss: 1.0  loss_cls: 0.7", "loss 1"))
    logger.info(LogText("time: 0.5"))
    logger.info("classes: 2\na, b")
    terminal.trains = True
    logger.info(Table("| AP |"))
    terminal.trains = False
    logger.info(Table("| AR |"))
    lines = capsys.readouterr().out.splitlines()
    assert [line[15:] for line in lines] == ["loss 1", "classes: 2", "a, b", "| AR |"]
    assert (tmp_path / "log").read_text().splitlines() == [
        "loss: 1.0  loss_cls: 0.7",
        "time: 0.5",
        *("classes: 2", "a, b", "| AP |", "| AR |"),
    ]


def warn_as(module: str, text: str, category: type[Warning] = UserWarning) -> None:
    scope = {"__name__": module, "text": text, "category": category}
    exec("import warnings\nwarnings.warn(text, category)", scope)


@pytest.mark.parametrize("category", [UserWarning, FutureWarning, DeprecationWarning])
def test_warnings_of_libraries_about_themselves(category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ignore_library_warnings()
        warn_as("torch.functional", "torch.meshgrid: in an upcoming release, ...", category)
        warn_as("mmdet.models", "`build` is\ndeprecated", category)
        warn_as("mmseg.engine.hooks", "The draw is False, it means that the hook for visualization "
                "will not take effect.")  # fmt: skip
        assert seen == []
        warn_as("my_head", "`build` is deprecated", category)  # the user's own code
        warn_as("torch.cuda", "The NVIDIA driver on your system is too old", category)
        warn_as("torchmetrics", "this is deprecated", category)
    assert [str(each.message)[:8] for each in seen] == ["`build` ", "The NVID", "this is "]


def test_importing_the_toolboxes_prints_nothing() -> None:
    code = "import mmbeit3, mmdet.datasets, mmseg.datasets; print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
