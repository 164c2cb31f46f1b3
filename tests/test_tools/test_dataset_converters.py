from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "dataset_converters"
HELP = (
    "import runpy, sys\n"
    "sys.argv = [sys.argv[1], '--help']\n"
    "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "except SystemExit as end: status = end.code\n"
    "print('SLOW', [name for name in ('torch', 'mmengine', 'numpy') if name in sys.modules])\n"
    "sys.exit(status)"
)


@pytest.mark.parametrize("tool", ["ade20k.py", "coco_stuff164k.py"])
def test_help_comes_before_the_slow_imports(tool: str) -> None:
    command = [sys.executable, "-c", HELP, str(TOOLS / tool)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ZIP" in done.stdout and "SLOW []" in done.stdout


@pytest.mark.parametrize(
    ("tool", "function"),
    [("ade20k", "prepare_ade20k"), ("coco_stuff164k", "prepare_coco_stuff")],
)
def test_arguments_reach_the_function(
    tool: str,
    function: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.zip").touch()
    calls = []

    def record(*args, **kwargs) -> str:
        calls.append((args, kwargs))
        return "the folder"

    room = function.removeprefix("prepare_")
    module = importlib.import_module(f"mmbeit3.datasets.converters.{room}")
    monkeypatch.setattr(module, function, record)
    monkeypatch.setattr(sys, "argv", [tool, "a.zip", "--out", "there"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
    assert not end.value.code
    ((args, kwargs),) = calls
    assert args[0] == "a.zip" and args[-1] == "there" and kwargs["progress"]
    assert capsys.readouterr().out.endswith("validation images are in the folder\n")


@pytest.mark.parametrize("tool", ["ade20k.py", "coco_stuff164k.py"])
def test_a_wrong_archive_is_one_message(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [tool, str(tmp_path / "absent.zip")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / tool), run_name="__main__")
    assert end.value.code == 2
    assert "absent.zip does not exist" in capsys.readouterr().err
