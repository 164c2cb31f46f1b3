"""The notebooks run from first to last cell; in short here, with fewer steps and images."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra mmbeit3[notebooks]")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZES = {"detection": "(20, 2)", "retrieval": "(40, 2, 8)"}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_there_is_one_for_detection_and_one_for_retrieval() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(SIZES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason="needs the extra mmbeit3[notebooks]")
    notebook = read(path)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source, count = re.subn(
        r"(?m)^(images, .*) = .*", rf"\1 = {SIZES[path.stem]}", first.source
    )
    assert count == 1
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    client.NotebookClient(notebook, timeout=600, resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert pictures, shown
