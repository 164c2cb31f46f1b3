from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mmbeit3.datasets.converters import objects365 as module

TOOL = Path(__file__).resolve().parents[2] / "tools" / "dataset_converters" / "objects365.py"
HELP = (
    "import runpy, sys\n"
    "sys.argv = [sys.argv[1], '--help']\n"
    "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "except SystemExit as end: status = end.code\n"
    "print('SLOW', [name for name in ('torch', 'mmengine', 'numpy') if name in sys.modules])\n"
    "sys.exit(status)"
)


def test_help_comes_before_the_slow_imports() -> None:
    command = [sys.executable, "-c", HELP, str(TOOL)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FOLDER" in done.stdout and "1% of the images" in done.stdout
    assert "SLOW []" in done.stdout


def test_arguments_reach_the_function_and_the_end_says_what_became_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("download").mkdir()
    calls = []

    def record(*args, **kwargs) -> tuple[Path, list[module.Summary]]:
        calls.append((args, kwargs))
        return Path("there"), [module.Summary("train", images=1742292, kept_images=1742289)]

    monkeypatch.setattr(module, "prepare_objects365", record)
    arguments = ["download", "--out", "there", "--partial", "--workers", "3"]
    monkeypatch.setattr(sys, "argv", ["objects365.py", *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert not end.value.code
    assert calls == [(("download", "there", True, 3), {"progress": True})]
    begins, first, last = capsys.readouterr().out.splitlines()
    assert begins == "reading download ..."
    assert first.startswith("train: 1,742,289 of 1,742,292 images")
    assert last.endswith("there/annotations")


def test_a_wrong_folder_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["objects365.py", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert end.value.code == 2
    assert "has no full set of annotations" in capsys.readouterr().err
