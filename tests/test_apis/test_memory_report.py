from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmbeit3.apis.memory_report import report
from mmbeit3.config import load_config
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def detector() -> Config:
    return load_config(CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py")


def test_report_prints_and_writes(
    detector: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "plan.json"
    report(detector, gpus=2, memory=0.5, batch_size=2, json=path)
    printed = capsys.readouterr().out
    assert "backbone.layers.0 to 3 (4 layers)" in printed
    assert "predicted peak" in printed and "no switch makes it fit" in printed
    assert "too big  --cfg-options train_dataloader.batch_size=1 optim_wrapper.acc" in printed
    found = json.loads(path.read_text())
    assert found["plan"]["settings"]["batch_size"] == 2
    assert found["plan"]["peak"] == max(
        sum(moment["kinds"].values()) for moment in found["plan"]["moments"].values()
    )
    assert found["trials"][0]["options"] == {} and not found["trials"][0]["fits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(gpus=0), "number of devices is 0"),
        (dict(memory=-1), "memory is -1 GiB"),
        (dict(batch_size=0), "batch size is 0"),
    ],
)
def test_what_cannot_be_is_refused(detector: Config, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        report(detector, **arguments)


def test_a_model_without_towers_is_named() -> None:
    cfg = load_config(CONFIGS / "beit3_pretraining" / "vqkd-tiny_64_shapes.py")
    with pytest.raises(InputError, match="this one is a mmbeit3.VQKD"):
        report(cfg)
