"""What the demo gathers from its steps; the steps themselves are tested on their own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_summary_holds_ap_times_and_versions(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {
        f"coco/{kind}_{name}": value
        for kind, values in {"bbox": (0.5, 0.7, 0.6), "segm": (0.4, 0.6, 0.45)}.items()
        for name, value in zip(("mAP", "mAP_50", "mAP_75"), values, strict=True)
    }
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    summary = demo.summarise(tmp_path, {"data": 3.0, "train": 40.5})
    demo.report(summary, tmp_path)

    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["bbox"] == {"AP": 0.5, "AP50": 0.7, "AP75": 0.6}
    assert written["segm"] == {"AP": 0.4, "AP50": 0.6, "AP75": 0.45}
    assert written["seconds"] == {"data": 3.0, "train": 40.5, "total": 43.5}
    assert written["versions"]["torch"][0].isdigit()
    printed = capsys.readouterr().out
    assert "0.500  0.700  0.600" in printed
    assert str(tmp_path / "inference" / "overlays") in printed


def test_its_config_is_there(demo: ModuleType) -> None:
    assert (ROOT / demo.CONFIG).is_file()
