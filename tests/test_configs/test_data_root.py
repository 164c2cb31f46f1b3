"""A config means the same data whether or not data_root ends with a slash."""

from __future__ import annotations

import re
from os import path as osp
from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WITH_ROOT = sorted(
    path
    for path in CONFIGS.rglob("*.py")
    if re.search(r"^data_root = ", path.read_text(), re.MULTILINE)
)


def paths(node: object) -> list[str]:
    """All texts below data sets and evaluators that start with the root, without double slashes."""
    if isinstance(node, dict):
        return [path for value in node.values() for path in paths(value)]
    if isinstance(node, (list, tuple)):
        return [path for value in node for path in paths(value)]
    return [osp.join(node, "")] if isinstance(node, str) and "my/data" in node else []


@pytest.mark.parametrize("path", WITH_ROOT, ids=lambda path: path.stem)
def test_data_root_with_and_without_a_slash(path: Path, tmp_path: Path) -> None:
    found = []
    for root in ("my/data", "my/data/"):
        text = re.sub(
            r"^data_root = .*", f"data_root = {root!r}", path.read_text(), flags=re.MULTILINE
        )
        text = text.replace('"../_base_', f'"{CONFIGS}/_base_').replace('"./', f'"{path.parent}/')
        (tmp_path / "altered.py").write_text(text)
        cfg = Config.fromfile(tmp_path / "altered.py")
        keys = [key for key in cfg if key.endswith(("_dataloader", "_evaluator"))]
        found.append([paths(cfg[key]) for key in keys])
        for key in ("val_evaluator", "test_evaluator"):
            if "ann_file" in cfg.get(key, {}):  # pretraining evaluates nothing
                dataset = cfg[key.replace("evaluator", "dataloader")].dataset
                joined = osp.join(dataset.data_root, dataset.ann_file)
                assert cfg[key].ann_file == joined
                assert "//" not in joined
    assert found[0] == found[1]
    assert len(set(found[0][0])) == 1
    # a data set of pretraining has parts, all in one folder
    assert len(found[0][0]) == 1 or "pretraining" in path.stem
