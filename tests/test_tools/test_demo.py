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


def test_summary_holds_scores_times_and_versions(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {
        f"coco/{kind}_{name}": value
        for kind, values in {"bbox": (0.5, 0.7, 0.6), "segm": (0.4, 0.6, 0.45)}.items()
        for name, value in zip(("mAP", "mAP_50", "mAP_75"), values, strict=True)
    }
    semantic = {"mIoU": 61.25, "aAcc": 93.5, "mAcc": 70.0}
    for task, content in (("detection", metrics), ("segmentation", semantic)):
        (tmp_path / task).mkdir()
        (tmp_path / task / "metrics.json").write_text(json.dumps({"metrics": content}))
    seconds = {"data": 3.0, "detection train": 40.5, "segmentation train": 16.5}
    summary = demo.summarize(tmp_path, seconds)
    demo.report(summary)

    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["bbox"] == {"AP": 0.5, "AP50": 0.7, "AP75": 0.6}
    assert written["segm"] == {"AP": 0.4, "AP50": 0.6, "AP75": 0.45}
    assert written["semantic"] == {"mIoU": 61.25, "aAcc": 93.5}
    assert written["seconds"] == seconds | {"total": 60.0}
    assert written["versions"]["torch"][0].isdigit()
    printed = capsys.readouterr().out
    assert "0.500  0.700  0.600" in printed and "1.0 min" in printed
    for task in ("detection", "segmentation"):
        assert str(Path("work_dirs/demo") / task / "inference" / "overlays") in printed


def test_its_configs_are_there(demo: ModuleType) -> None:
    for config in demo.CONFIGS.values():
        assert (ROOT / config).is_file()
