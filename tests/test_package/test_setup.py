"""What an installation brings: what the imports need, and configs and tools as ``.mim``."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement

from mmbeit3.doctor import known_issues

ROOT = Path(__file__).resolve().parents[2]
# Imported where a user needs it; its absence is an error that names it.
# torchscale: what the benchmarks and the tests compare with
OPTIONAL = {"packaging", "pillow_heif", "rasterio", "torchscale"}  # packaging: of pytest
IMPORT_TO_REQUIREMENT = {
    "cv2": "opencv-python",
    "yaml": "PyYAML",
    "PIL": "pillow",
    "faster_coco_eval": "faster-coco-eval",
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, so that a build leaves nothing in the source tree."""
    target = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns(".mim", "__pycache__")
    for name in ("mmbeit3", "configs", "tools", "requirements"):
        shutil.copytree(ROOT / name, target / name, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "model-index.yml"):
        shutil.copy(ROOT / name, target)
    (target / "README.md").write_text("# mmbeit3\n")
    return target


@pytest.fixture(scope="module")
def arguments(tree: Path) -> dict[str, Any]:
    """What setup.py passes to ``setuptools.setup``."""
    captured: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **kwargs: captured.update(kwargs))
        runpy.run_path(str(tree / "setup.py"))
    return captured


@pytest.fixture(scope="module")
def requirements(arguments: dict[str, Any]) -> dict[str, Requirement]:
    parsed = [Requirement(text) for text in arguments["install_requires"]]
    return {requirement.name: requirement for requirement in parsed}


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in parsed:
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{requirement} is no exact version"
    return {requirement.name: str(requirement.specifier)[2:] for requirement in parsed}


def test_constraints_pin_every_requirement_within_its_range(
    arguments: dict[str, Any], requirements: dict[str, Requirement]
) -> None:
    pins = _pins("constraints.txt")
    installed = re.search(r'"\.\[(.*)\]"', (ROOT / "Makefile").read_text())  # by make env
    assert installed is not None
    extras = [arguments["extras_require"][name] for name in installed[1].split(",")]
    further = [Requirement(text) for extra in extras for text in extra]
    for requirement in [*requirements.values(), *further]:
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_upstream_list_covers_what_the_forks_do_not(requirements: dict[str, Requirement]) -> None:
    pins = _pins("constraints-upstream.txt")
    forks = {name for name in requirements if name.startswith("onedl-")}
    assert set(requirements) - forks <= set(pins)
    assert not any(name.startswith("onedl-") for name in pins)
    assert known_issues.check_duplicates(pins) == known_issues.check_mmcv_range(pins) == []


def test_torch_has_no_upper_cap(requirements: dict[str, Requirement]) -> None:
    (lower,) = requirements["torch"].specifier
    assert (lower.operator, known_issues.release(lower.version)) == (">=", known_issues.MIN_TORCH)


def _imported_names(folder: Path) -> set[str]:
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - OPTIONAL - {"mmbeit3", "benchmarks"}


@pytest.mark.parametrize("folder", ["mmbeit3", "tools", "benchmarks"])
def test_every_import_is_required(folder: str, requirements: dict[str, Requirement]) -> None:
    for name in _imported_names(ROOT / folder):
        assert IMPORT_TO_REQUIREMENT.get(name, name) in requirements, f"{folder} imports {name}"


def _build(what: str, source: Path, out: Path) -> Path:
    """Run a hook of the build backend as pip does; return the file it made."""
    code = f"from setuptools import build_meta as b; print(b.build_{what}({str(out)!r}))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return out / result.stdout.split()[-1]


def _files(folder: str, *suffixes: str) -> set[str]:
    paths = (ROOT / folder).rglob("*")
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.suffix in suffixes and ".mim" not in path.parts
    }


def test_wheel_from_source_distribution_holds_everything(tree: Path, tmp_path: Path) -> None:
    sdist = _build("sdist", tree, tmp_path)
    shutil.unpack_archive(sdist, tmp_path)
    wheel = _build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        index = yaml.safe_load(archive.read("mmbeit3/.mim/model-index.yml"))
    expected = _files("configs", ".py", ".yml", ".md") | _files("tools", ".py", ".sh")
    mim = {name.removeprefix("mmbeit3/.mim/") for name in names if "/.mim/" in name}
    assert mim == expected | {"model-index.yml"}
    assert set(index["Import"]) <= mim
    assert names - {f"mmbeit3/.mim/{name}" for name in mim} == _files("mmbeit3", ".py", ".html")


def test_editable_install_links_to_the_source(tree: Path, tmp_path: Path) -> None:
    for _ in range(2):  # installing again must not fail on the links that are there
        _build("editable", tree, tmp_path)
    mim = tree / "mmbeit3" / ".mim"
    assert sorted(path.name for path in mim.iterdir()) == ["configs", "model-index.yml", "tools"]
    for path in mim.iterdir():
        assert path.is_symlink() and path.resolve() == tree / path.name
