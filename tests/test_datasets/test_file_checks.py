"""Checks that are kept: waiting for another process that does the same one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmbeit3.datasets import file_checks


def test_waiting_for_another_process_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_checks, "FIRST_SAID", 0.2)
    monkeypatch.setattr(file_checks, "SAY_AGAIN", 0.3)
    data = tmp_path / "a.json"
    data.touch()
    arguments = ("annotations", [str(data)], "the train set", lambda: 7)
    assert file_checks.keep(*arguments, is_costly=True) == 7
    assert capsys.readouterr().err == ""
    (kept,) = (tmp_path / "cache" / "mmbeit3").glob("*.json")
    kept.unlink()
    code = "import sys, time; from filelock import FileLock\n"
    code += "with FileLock(sys.argv[1]): print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{kept}.lock"], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        timer = threading.Timer(1.2, holder.kill)  # which gives the lock back
        timer.start()
        assert file_checks.keep(*arguments, is_costly=True) == 7
        timer.join()
    said = capsys.readouterr().err
    assert said.count("another process that checks the train set, and holds") >= 2
    assert f"{kept}.lock" in said
