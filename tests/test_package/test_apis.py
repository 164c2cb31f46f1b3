"""The functions of ``mmbeit3.apis``: there by name, and free until they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmbeit3 import apis

ROOT = Path(__file__).resolve().parents[2]


def test_importing_is_light() -> None:
    code = "import sys, mmbeit3.apis; sys.exit(bool({'torch', 'mmengine'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", apis.__all__)
def test_every_function_is_there(name: str) -> None:
    assert getattr(apis, name).__name__ == name


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"mmbeit3\.apis.*no attribute 'tran'"):
        _ = apis.tran
