"""The ``mmbeit3`` command: starts without the heavy imports, passes the exit status on."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmbeit3
from mmbeit3 import cli
from mmbeit3.doctor import report as doctor

ROOT = Path(__file__).resolve().parents[2]
HELP_AND_MODULES = """
import sys
from mmbeit3.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    heavy = {"torch", "mmengine", "mmcv", "mmdet", "numpy"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else stop.code)
"""


def test_help_is_light() -> None:
    result = subprocess.run(
        [sys.executable, "-c", HELP_AND_MODULES], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "doctor" in result.stdout


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mmbeit3.cli", "--help"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"mmbeit3 {mmbeit3.__version__}"


@pytest.mark.parametrize("argv", [[], ["operate"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: mmbeit3" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["mmdet::test.py", "mmseg::test.py"])
def test_run_starts_tools_of_the_toolboxes(script: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mmbeit3.cli", "run", script, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "usage: test.py [-h]" in result.stdout and "  checkpoint " in result.stdout


def test_run_passes_arguments_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside.py").write_text("STATUS = 3")
    script = tmp_path / "a script.py"
    script.write_text("import sys, beside\nprint(sys.argv[1:])\nsys.exit(beside.STATUS)")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", str(script), "-x", "--help", "--", "a b"])
    assert stop.value.code == 3
    assert capsys.readouterr().out == "['-x', '--help', '--', 'a b']\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mmdet::tst.py", r"tst\.py is no file; there are .*test\.py"),
        ("mmdetection::test.py", "no package 'mmdetection' is installed"),
        ("nowhere/test.py", "is no file"),
    ],
)
def test_run_names_a_script_that_is_not_there(
    script: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", script])
    assert stop.value.code == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("status", [0, 1])
def test_doctor_status_is_passed_on(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "main", lambda: status)
    assert cli.main(["doctor"]) == status
