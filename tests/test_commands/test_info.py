from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from mmbeit3.checkpoint import official_state_dict, save_checkpoint
from mmbeit3.cli import main
from mmbeit3.models import BEiT3

META = {
    "iter": 40,
    "epoch": 0,
    "seed": 3,
    "experiment_name": "my_fruits_20260102_030405",
    "dataset_meta": {"classes": ["date", "fig"]},
    "settings": {"model": {"type": "mmbeit3.CascadeRCNN"}, "data": {"samples": 14}},
}


def described(file: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["info", str(file), "--json"]) == 0
    out = capsys.readouterr().out
    return json.loads(out)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_trained_model(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tower = BEiT3("tiny", img_size=64, patch_size=8)
    weights = {f"backbone.{name}": value for name, value in tower.state_dict().items()}
    content = {"meta": META, "state_dict": weights, "optimizer": {}, "param_schedulers": []}
    hub = {"runtime_info": {"max_iters": 80, "best_score": 0.5}}
    file = save_checkpoint(content | {"message_hub": hub}, tmp_path / f"iter_40{suffix}")
    found = described(file, capsys)
    whole = suffix == ".pth"
    assert found["resumable"] is whole
    assert found["classes"] == ["date", "fig"] and found["config"] == "my_fruits"
    assert found["tower"] == {"arch": "tiny", "layers": 4, "channels": 192, "patch_size": 8}
    assert found["parameters"] == sum(value.numel() for value in weights.values())
    assert found["dtypes"] == ["float32"] and found["model"] == "mmbeit3.CascadeRCNN"
    assert found["training"]["iteration"] == ("40 of 80" if whole else "40")
    assert found["bytes"] == file.stat().st_size
    assert main(["info", str(file)]) == 0
    assert "2: date, fig" in capsys.readouterr().out


def test_an_official_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tower = BEiT3("tiny", img_size=64, with_cls_token=True, final_norm=True)
    state = official_state_dict(tower.state_dict())
    file = save_checkpoint({"model": state}, tmp_path / "beit3_tiny.pth")
    found = described(file, capsys)
    assert found["layout"] == "official" and found["resumable"] is False
    assert found["tower"]["arch"] == "tiny" and "init_cfg" in found["initializes"]


class Command:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran"),)


def test_no_code_of_the_file_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": Command()}, "evil.pth")
    assert pickle.loads(pickle.dumps(Command())) is None and Path("ran").exists()
    Path("ran").unlink()
    assert main(["info", "evil.pth"]) == 2
    assert not Path("ran").exists()
    assert capsys.readouterr().err.startswith("error: ")
