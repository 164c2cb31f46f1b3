"""The weights in the repository: of the demo's models, and those that their page lists."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmbeit3.checkpoint import read_checkpoint
from mmbeit3.models import BEiT3
from mmbeit3.registry import MODELS
from tools import demo

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("task", demo.CONFIGS)
def test_the_demos_towers_start_from_them(task: str) -> None:
    file = ROOT / demo.TOWERS[task]
    cfg = Config.fromfile(ROOT / demo.CONFIGS[task]).model.backbone
    tower = MODELS.build(cfg | dict(init_cfg=dict(type="Pretrained", checkpoint=str(file))))
    assert isinstance(tower, BEiT3)
    tower.init_weights()
    kept = read_checkpoint(file)["state_dict"]
    name = "layers.1.ffn.fc1.weight"
    assert torch.equal(tower.state_dict()[name], kept[name])


def test_their_digests_are_listed() -> None:
    files = sorted((ROOT / "weights").glob("*.safetensors"))
    assert sorted(ROOT / name for name in demo.TOWERS.values()) == files
    table = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"`([\w.-]+\.safetensors)`.*`([0-9a-f]{64})`", table))
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert listed == found
    assert all(file.stat().st_size < 8e6 for file in files)
