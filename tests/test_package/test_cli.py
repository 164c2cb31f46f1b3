"""The ``mmbeit3`` command: starts without the heavy imports, passes the exit status on."""

from __future__ import annotations

import os
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
HEAVY = ("torch", "mmengine", "mmcv", "mmdet", "numpy", "PIL")
HELP_AND_MODULES = f"""
import sys
from mmbeit3.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    heavy = set({HEAVY}) & sys.modules.keys()
    sys.exit(f"imported {{heavy}}" if heavy else stop.code)
"""


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_help_is_light_and_quick(command: list[str]) -> None:
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", HELP_AND_MODULES, *command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        seconds.append(time.perf_counter() - start)
    assert done.returncode == 0, done.stderr
    assert min(seconds) < 1
    assert "usage: " in done.stdout
    if not command:
        assert all(name in done.stdout for name in cli.COMMANDS)


def test_the_package_is_the_command(tmp_path: Path) -> None:  # as torchrun starts it
    done = subprocess.run(
        [sys.executable, "-m", "mmbeit3", "train", "absent.py", "--launcher", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: config absent.py does not exist")


SCRIPTS = {script: script.read_text() for script in sorted((ROOT / "tools").rglob("*.py"))}


def test_scripts_are_the_commands() -> None:
    called = {
        name: script
        for script, text in SCRIPTS.items()
        for name in re.findall(r'run_script\("(.*)"\)', text)
    }
    assert called.keys() <= set(cli.COMMANDS)
    own = {script.stem for script in SCRIPTS.keys() - set(called.values())}
    assert own == {"demo", "fault_campaign"}  # which need a checkout


def test_user_errors_are_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-data", "annotations.json"]) == 2
    assert capsys.readouterr().err.startswith("error: a COCO file needs the folder of its images")


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
    assert cli.main(["run", script]) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("status", [0, 1])
def test_doctor_status_is_passed_on(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "main", lambda: status)
    assert cli.main(["doctor"]) == status
