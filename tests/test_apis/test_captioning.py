"""A writer of captions by the tools: trained, resumed and tested as a config says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmbeit3.apis.testing import test as run_test
from mmbeit3.apis.training import train
from mmbeit3.checkpoint import read_checkpoint, save_checkpoint, to_official
from mmbeit3.models.multimodal import captioning
from tests.test_apis.test_retrieval import config as retrieval_config  # noqa: F401
from tests.test_apis.test_retrieval import load


@pytest.fixture
def config(retrieval_config: Path) -> Path:  # noqa: F811
    """The same images, each with two captions, and a config that learns to write them."""
    text = retrieval_config.read_text(encoding="utf-8")
    for was, now in (
        ("BEiT3Retrieval", "BEiT3Captioning"),
        ("RetrievalMetric", "CaptionMetric"),
        ("default_runtime_retrieval", "default_runtime_captioning"),
    ):
        text = text.replace(was, now)
    retrieval_config.write_text(text, encoding="utf-8")
    return retrieval_config


def test_captions_are_trained_resumed_and_tested(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed: list[tuple[list[int], float]] = []
    loss = captioning.caption_loss

    def noted(logits, targets, label_smoothing, ratio):
        guessed.append((targets.tolist(), ratio))
        return loss(logits, targets, label_smoothing, ratio)

    monkeypatch.setattr(captioning, "caption_loss", noted)
    worst = {"model.drop_worst_ratio": 0.2, "model.drop_worst_after": 1}
    more = {"train_cfg.max_iters": 4, "train_cfg.val_interval": 4, **worst}
    train(load(config, tmp_path / "whole", **more))
    whole, guessed = guessed, []
    assert [ratio for _, ratio in whole] == [0.0, 0.0, 0.2, 0.2]
    train(load(config, tmp_path / "run", **worst))
    train(load(config, tmp_path / "run", **more), resume=True)
    assert guessed == whole  # the same words are masked
    one, two = (
        read_checkpoint(tmp_path / name / "iter_4.pth")["state_dict"] for name in ("whole", "run")
    )
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert len(list((tmp_path / "run").glob("best_caption_CIDEr_*.pth"))) == 1
    metrics = run_test(load(config, tmp_path / "test"), tmp_path / "run" / "iter_4.pth")
    assert "caption/CIDEr" in metrics
    official = tmp_path / "official_captioning.pth"
    save_checkpoint({"model": to_official(one)}, official)
    assert run_test(load(config, tmp_path / "test2"), official) == metrics
    out = tmp_path / "results.json"
    run_test(load(config, tmp_path / "test3"), official, out=out)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert [entry["image_id"] for entry in results] == [0, 1, 2, 3]
    assert all(entry["caption"].strip() for entry in results)
    pytest.importorskip("plotly")
    run_test(load(config, tmp_path / "test4"), official, report=tmp_path / "report")
    (found,) = json.loads((tmp_path / "report" / "report.json").read_text())["results"]
    assert all(found[name.partition("/")[2]] == value for name, value in metrics.items())
