from __future__ import annotations

import json

import pytest

from mmbeit3.cli import main
from mmbeit3.commands.configs import list_configs
from mmbeit3.utils.packaged_configs import config_names


def test_every_config_is_described() -> None:
    rows = list_configs()
    assert {row["name"] for row in rows} == config_names().keys()
    for row in rows:
        assert all(row.values()), row
        assert row["base"] == f"mmbeit3::{config_names()[row['name']]}"
        assert "Run:" not in row["reproduces"] and "Copy" not in row["reproduces"]


def test_words_choose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "tiny", "Detection", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cascade-mask-rcnn_beit3-tiny_shapes"]["state"] == "trained by us"
    assert all("tiny" in name and row["task"] == "detection" for name, row in rows.items())
    assert main(["configs", "resnet"]) == 1
    assert main(["configs"]) == 0
    assert "upernet_beit3-base_512_ade20k" in capsys.readouterr().out
