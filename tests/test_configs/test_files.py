"""What holds of every config file as text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.py")), ids=lambda path: path.stem)
def test_no_config_imports_a_module(path: Path) -> None:
    """mmengine 0.10.7 in a virtual environment takes one that does for its other kind of config."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in nodes)
