"""A config does the same by our functions, by the toolboxes' own tools, and from Python."""

from __future__ import annotations

import importlib.util
import json
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.config import load_config
from mmbeit3.datasets import make_shapes
from mmbeit3.engine import Runner
from mmbeit3.engine.process_state import process_state_kept

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TASKS = {
    "detector": ("beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py", "mmdet"),
    "segmentor": ("beit3_mask2former/mask2former_beit3-tiny_shapes.py", "mmseg"),
}
OWN = """
_base_ = {base!r}
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=2, val_interval=1000)
optim_wrapper = dict(accumulative_counts="auto")
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


def run_script(package: str, name: str, *arguments: str) -> None:
    """Run a tool that a toolbox brings along, as it is, in this process."""
    root = Path(importlib.util.find_spec(package).origin).parent
    with process_state_kept(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(root / ".mim" / "tools" / name), run_name="__main__")


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(work_dir / "iter_2.pth")["state_dict"]


@pytest.mark.parametrize("task", TASKS)
def test_train_and_test_are_the_same_by_any_tool(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, package = TASKS[task]
    make_shapes(tmp_path / "data" / "shapes", 8, 2, 128, seed=0)  # where the config looks
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.py"
    path.write_text(OWN.format(base=str(CONFIGS / name)))

    train(load_config(path, work_dir=tmp_path / "ours"))
    run_script(package, "train.py", str(path), "--work-dir", "theirs")
    cfg = Config.fromfile(path)
    cfg.work_dir = "python"
    with process_state_kept():
        Runner.from_cfg(cfg).train()
    expected = weights(tmp_path / "ours")
    for other in ("theirs", "python"):
        found = weights(tmp_path / other)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), other

    checkpoint = str(tmp_path / "ours" / "iter_2.pth")
    metrics = run_test(load_config(path, work_dir=tmp_path / "ours"), checkpoint)
    run_script(package, "test.py", str(path), checkpoint, "--work-dir", "tested")
    (log,) = (tmp_path / "tested").glob("2*/2*.json")
    theirs = json.loads(log.read_text())
    assert metrics and {key: theirs[key] for key in metrics} == metrics
