"""The six commands of the README: from the wheel to a detector, pictures and a Python result."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from glob import glob
from pathlib import Path

import pytest

from mmbeit3.cli import main
from mmbeit3.datasets.shapes import make_shapes

ROOT = Path(__file__).resolve().parents[2]
PACKED = ("mmbeit3", "configs", "tools", "setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE")
PACKED += ("model-index.yml", "README.md")


def six_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Your own data, in six commands\n")[1]
    found = re.search(r"^```bash\n(.*?)^```", section, re.M | re.S)
    assert found
    commands = found[1].splitlines()
    assert len(commands) == 6
    return commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small data set of the name that the README's has, and nothing else."""
    made = make_shapes(tmp_path / "made", 4, 2, 64, seed=0)
    data = tmp_path / "empty" / "fruits_nuts"
    (data / "images").mkdir(parents=True)
    number = 0
    for split in ("train", "val"):
        content = json.loads((made / "annotations" / f"{split}.json").read_text())
        for image in content["images"]:
            source = made / split / image["file_name"]
            image["file_name"] = f"{number}.jpg"
            shutil.copy(source, data / "images" / image["file_name"])
            number += 1
        (data / f"{split}.json").write_text(json.dumps(content))
    return data.parent


def shorten(config: Path) -> None:
    """Edit two lines under "edit these": two steps in place of minutes."""
    text, number = re.subn(
        r"^(max_iters|val_interval) = \d+", r"\1 = 2", config.read_text(), flags=re.M
    )
    assert number == 2
    config.write_text(text)


def check_results(folder: Path) -> None:
    assert len(list(folder.glob("work_dirs/fruits/best_*.pth"))) == 1
    assert len(list((folder / "compared").rglob("*.*"))) == 2
    assert len(list((folder / "found" / "overlays").iterdir())) == 6
    assert json.loads((folder / "found" / "summary.json").read_text())["num_images"] == 6


def test_they_run_in_this_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    install, *commands, python = six_commands()
    assert shlex.split(install) == ["pip", "install", "mmbeit3-*.whl"]
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mmbeit3"
        files = [file for word in arguments for file in (glob(word) if "*" in word else [word])]
        assert main(files) == 0
        if arguments[0] == "new-config":
            shorten(folder / "fruits.py")
    check_results(folder)
    program, option, code, *arguments = shlex.split(python)
    assert (program, option) == ("python", "-c")
    files = [file for word in arguments for file in (glob(word) if "*" in word else [word])]
    monkeypatch.setattr(sys, "argv", ["-c", *files])
    capsys.readouterr()
    exec(code, {})
    assert "DetectionResult(" in capsys.readouterr().out


@pytest.mark.slow
def test_they_run_from_the_wheel_without_a_checkout(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        options = {"ignore": shutil.ignore_patterns(".mim", "__pycache__")}
        copy(ROOT / name, source / name, **(options if (ROOT / name).is_dir() else {}))
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "-w", str(folder), "."], cwd=source, check=True)
    shutil.rmtree(source)
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}  # the rest is here already
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    install, new_config, *others, python = six_commands()
    run(install)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    home = run("python -c 'import mmbeit3; print(mmbeit3.__file__)'").splitlines()[-1]
    assert Path(home).is_relative_to(packages)
    run(new_config)
    shorten(folder / "fruits.py")
    for command in others:
        run(command)
    check_results(folder)
    assert "DetectionResult(" in run(python)
