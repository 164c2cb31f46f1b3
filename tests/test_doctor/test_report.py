"""``mmbeit3 doctor`` as a user runs it, and the facts it gathers."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from mmbeit3.doctor import report as doctor
from mmbeit3.doctor.known_issues import Problem

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["-m", "mmbeit3.cli", "doctor"]


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_this_environment_is_sound() -> None:
    result = _run(*COMMAND)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Problems: 0 errors" in result.stdout
    assert metadata.version("torch") in result.stdout
    assert "cpu               NMS ok, RoIAlign ok, Soft-NMS ok" in result.stdout


def test_an_empty_environment_gets_a_report_too() -> None:
    result = _run("-S", *COMMAND)  # -S: without any installed package
    assert result.returncode == 1
    assert result.stderr == ""
    for package in ("torch", "onedl-mmdetection", "faster-coco-eval"):
        assert f"fix: pip install {package}\n" in result.stdout


def test_a_trap_sets_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"mmdet": "3.3.0", "onedl-mmdetection": "3.5.1"}
    monkeypatch.setattr(doctor, "installed_distributions", lambda: both)
    monkeypatch.setattr(doctor, "PROBES", {"torch": _raise})
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert "ERROR: `import mmdet` is provided by 2 distributions" in out
    assert "fix: pip uninstall -y onedl-mmdetection mmdet" in out
    assert "mmdet             3.5.1 / 3.3.0   onedl-mmdetection + mmdet" in out


def test_warnings_alone_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor._print_problems([Problem("odd", "turn it", is_error=False)]) == 0
    assert "0 errors, 1 warnings\n  warning: odd\n      fix: turn it" in capsys.readouterr().out


def test_failing_operator_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"NMS": lambda device: doctor._expect([0, 1], [0, 2])}
    monkeypatch.setattr(doctor, "OPERATOR_TRIALS", wrong)
    (problem,) = doctor._try_operators(["cpu"], {})
    assert problem.what == "NMS fails on cpu: wrong result: [0, 1], expected [0, 2]"
    assert "NMS FAILS" in capsys.readouterr().out


def _raise() -> None:
    raise AssertionError("MMCV==2.3.6 is used but incompatible.\nMore text")


def test_probes_report_the_first_line_of_what_they_raise() -> None:
    failures = doctor.run_probes({"mmdet": _raise, "torch": lambda: None})
    assert failures == {"mmdet": "MMCV==2.3.6 is used but incompatible."}


def test_installed_distributions_are_normalized() -> None:
    installed = doctor.installed_distributions()
    assert installed["faster-coco-eval"] == metadata.version("faster_coco_eval")
    assert not any(name != name.lower() or "_" in name for name in installed)


def test_compiled_operators_that_cannot_be_loaded(tmp_path: Path) -> None:
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"_ext{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    code = "from mmbeit3.doctor import report as d; print(d.has_compiled_mmcv())"
    result = _run("-c", code + "; print(d.load_compiled_mmcv())", PYTHONPATH=str(tmp_path))
    found, error = result.stdout.splitlines()
    assert found == "True"
    assert error.startswith("ImportError") and "_ext" in error


def test_no_compiled_operators_without_mmcv() -> None:
    code = "from mmbeit3.doctor import report as d; print(d.has_compiled_mmcv())"
    assert _run("-S", "-c", code).stdout == "False\n"
