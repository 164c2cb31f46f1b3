"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mmbeit3  # noqa: F401  before any test imports mmdet: mmcv.ops must be there by then

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of small real data sets: ``MMBEIT3_DATA``, else ``../shared/data``."""
    folder = Path(os.environ.get("MMBEIT3_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real sample data is not at {folder} (set MMBEIT3_DATA)")
    return folder
