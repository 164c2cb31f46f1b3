"""What importing costs: late packages of the toolboxes, no garbage collections, light starts."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from mmbeit3.utils import late_imports, uncollected_imports

# What no command needs before it draws a plot, matches queries or finds lanes.
SPARED = ("fairscale", "imagecorruptions", "imgaug", "matplotlib", "numba", "pandas", "scipy")
START = f"""
import gc, json, sys
import mmbeit3
from mmbeit3.inference.folder import infer_folder
import mmdet.datasets.transforms, mmdet.models, mmseg.datasets, mmseg.models
spared = sorted(set({SPARED}) & sys.modules.keys())
from mmbeit3.utils.fonts import default_font
assert default_font().is_file() and "matplotlib" not in sys.modules

import torch
from mmengine.structures import InstanceData
from mmdet.models.task_modules.assigners import HungarianAssigner
assigner = HungarianAssigner(dict(type="mmdet.ClassificationCost"))
found = InstanceData(scores=torch.eye(3)[[1, 2, 0]], bboxes=torch.zeros(3, 4))
real = InstanceData(labels=torch.arange(3), bboxes=torch.zeros(3, 4))
matched = assigner.assign(found, real, dict(img_shape=(1, 1))).gt_inds.tolist()
print(json.dumps([spared, gc.isenabled(), matched, "scipy" in sys.modules]))
"""


def test_inference_starts_without_what_few_use() -> None:
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True, [2, 3, 1], True]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from, and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _late(
    packages: Path, monkeypatch: pytest.MonkeyPatch, code: str, names: tuple[str, ...] = ("heavy",)
) -> ModuleType:
    monkeypatch.setitem(late_imports.MODULES, "user", names)
    (packages / "user.py").write_text(code)
    return import_module("user")


HEAVY = {
    "heavy/__init__.py": "",
    "heavy/part.py": "class Thing:\n    size = 3\n\ndef double(x):\n    return 2 * x\n",
}


@pytest.mark.parametrize(
    "statement",
    [
        "import heavy.part as part\nThing = double = None",
        "from heavy import part\nThing = double = None",
        "from heavy.part import Thing, double\npart = None",
        "part = None\ntry: from heavy.part import Thing, double\nexcept ImportError: pass",
    ],
)
def test_stand_ins_are_what_they_stand_for(
    packages: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    for name, code in HEAVY.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(code)
    code = (
        f"{statement}\n"
        "def size(): return (part.Thing if part else Thing).size\n"
        "def twice(x): return (part.double if part else double)(x)\n"
        "def is_thing(x): return isinstance(x, part.Thing if part else Thing)\n"
        "def later():\n    import heavy.part\n    return heavy.part\n"
    )
    user = _late(packages, monkeypatch, code)
    assert "heavy" not in sys.modules
    assert user.twice(4) == 8
    real = sys.modules["heavy.part"]
    assert user.size() == 3
    assert user.is_thing(real.Thing()) and not user.is_thing(3)
    assert user.later() is real  # an import inside of a function is the usual one


def test_a_class_can_be_derived_from_a_stand_in(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in HEAVY.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(code)
    code = "from heavy.part import Thing\nclass Mine(Thing):\n    pass\n"
    assert _late(packages, monkeypatch, code).Mine.size == 3


def test_a_package_that_is_not_there_is_missed_at_once(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "try:\n    import absent.part as found\nexcept ImportError:\n    found = None\n"
    assert _late(packages, monkeypatch, code, ("absent",)).found is None
    with pytest.raises(ModuleNotFoundError, match="absent"):
        (packages / "user.py").write_text("import absent\n")
        sys.modules.pop("user")
        import_module("user")


@pytest.mark.parametrize("module", late_imports.MODULES)
def test_modules_are_there_and_import_these_packages(module: str) -> None:
    spec = PathFinder.find_spec(
        module, [str(Path(import_module(module.rpartition(".")[0]).__file__ or "").parent)]
    )
    if spec is None or spec.origin is None:
        pytest.skip(f"this version has no {module}")
    code = Path(spec.origin).read_text()
    for package in late_imports.MODULES[module]:
        assert f"import {package}" in code or f"from {package}" in code


def test_imports_collect_no_garbage(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncollected_imports, "PACKAGES", {"outer", "inner", "broken"})
    (packages / "inner.py").write_text("import gc\nfound = gc.isenabled()\n")
    (packages / "outer.py").write_text("import gc, inner\nfound = gc.isenabled()\n")
    (packages / "broken.py").write_text("raise ValueError\n")
    (packages / "other.py").write_text("import gc\nfound = gc.isenabled()\n")
    assert import_module("other").found
    assert not import_module("outer").found and not import_module("inner").found
    assert gc.isenabled()
    with pytest.raises(ValueError):
        import_module("broken")
    assert gc.isenabled()


def test_collections_that_are_off_stay_off(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncollected_imports, "PACKAGES", {"inner"})
    (packages / "inner.py").write_text("")
    gc.disable()
    try:
        import_module("inner")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_someone_has_frozen_stays_frozen(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncollected_imports, "PACKAGES", {"large"})
    (packages / "large.py").write_text(f"kept = [[] for _ in range({uncollected_imports.MANY})]\n")
    gc.freeze()  # as conftest.py has done already, so that collections take no time
    frozen = gc.get_freeze_count()
    import_module("large")
    assert gc.get_freeze_count() > frozen / 2 > 0  # some are no longer needed; thawing leaves none
