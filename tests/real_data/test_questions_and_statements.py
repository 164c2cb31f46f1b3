"""41 questions of VQAv2 and 16 statements of NLVR2: they load, run, and are learned by heart."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from subprocess import run
from typing import Any

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from mmbeit3.config import load_config
from mmbeit3.evaluation import NLVR2Metric, VQAMetric, vqa_accuracy
from mmbeit3.registry import DATASETS, MODELS

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny_vqa_sample.py")
SIZE = 64


@pytest.fixture
def tokenizer(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = data_root / "tokenizer" / "beit3.spm"
    if not file.is_file():
        pytest.skip(f"the official tokenizer is not at {file}")
    monkeypatch.setenv("MMBEIT3_TOKENIZER", str(file))
    return file


def questions(data_root: Path, **options: Any) -> dict:
    return dict(
        type="VQAv2Dataset",
        data_root=str(data_root),
        questions="vl_samples/vqav2/questions.json",
        annotations="vl_samples/vqav2/annotations.json",
        data_prefix=dict(img="coco_sample/train2017"),
        min_count=1,
        test_mode=True,
        **options,
    )


def build(config: dict) -> Any:
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        return DATASETS.build(config)


def test_the_answers_of_most_people_score_9317(data_root: Path) -> None:
    dataset = build(questions(data_root))
    assert len(dataset) == 41
    items = [dataset.get_data_info(index) for index in range(41)]
    metric = VQAMetric()
    majority = [Counter(item["answers"]).most_common(1)[0][0] for item in items]
    metric.dataset_meta = {"classes": sorted(set(majority))}
    numbers = {answer: n for n, answer in enumerate(metric.dataset_meta["classes"])}
    metric.process(
        {},
        [
            item | {"pred_label": numbers[answer]}
            for item, answer in zip(items, majority, strict=True)
        ],
    )
    assert metric.evaluate(41)["vqa/accuracy"] == pytest.approx(93.17, abs=0.005)


def test_statements_have_their_images_and_labels(data_root: Path) -> None:
    for name, first in (("dev", "dev-850-0-0"), ("test1", "test1-0-1-0")):
        dataset = build(
            dict(
                type="NLVR2Dataset",
                ann_file=str(data_root / f"vl_samples/nlvr2/{name}.json"),
                data_prefix=dict(img=str(data_root / "vl_samples/nlvr2/images")),
            )
        )
        assert len(dataset) == 8
        item = dataset.get_data_info(0)
        assert (item["identifier"], item["gt_label"]) == (first, 0)
        metric = NLVR2Metric()
        items = [dataset.get_data_info(index) for index in range(8)]
        metric.process({}, [item | {"pred_label": item["gt_label"]} for item in items])
        assert metric.evaluate(8) == {"nlvr2/accuracy": 100, "nlvr2/consistency": 100}


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_real_items_run(data_root: Path, tokenizer: Path, task: str) -> None:
    """The test pipeline of the released recipe, and a tiny model."""
    recipe = {"vqa": "beit3-base_480_vqav2.py", "nlvr2": "beit3-base_224_nlvr2.py"}[task]
    cfg = load_config(
        ROOT / f"configs/beit3_{task}" / recipe,
        {
            "model.encoder.arch": "tiny",
            "model.encoder.img_size": 224,
            "model.encoder.init_cfg": None,
            "model.data_preprocessor.tokenizer.file": str(tokenizer),
        },
    )
    pipeline = cfg.val_dataloader.dataset.pipeline
    if task == "vqa":
        _resize(pipeline, 224)
        dataset = build(questions(data_root, pipeline=pipeline))
        cfg.model.num_classes = len(dataset.metainfo["classes"])
    else:
        samples = data_root / "vl_samples/nlvr2"
        dataset = build(
            dict(
                type="NLVR2Dataset",
                ann_file=str(samples / "dev.json"),
                data_prefix=dict(img=str(samples / "images")),
                pipeline=pipeline,
            )
        )
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        model = MODELS.build(cfg.model).eval()
    batch = pseudo_collate([dataset[index] for index in range(4)])
    with torch.no_grad():
        found = model.test_step(batch)
    assert [len(sample.pred_scores) for sample in found] == 4 * [len(dataset.metainfo["classes"])]


def _resize(pipeline: list[Config], size: int) -> None:
    for step in pipeline:
        if step["type"] == "Resize":
            step["scale"] = (size, size)


def test_no_model_can_score_more_than_the_majority(data_root: Path) -> None:
    """So an overfitted one is measured by that: people gave no answer that is worth more."""
    dataset = build(questions(data_root))
    answers = [dataset.get_data_info(index)["answers"] for index in range(41)]
    best = [max(vqa_accuracy(answer, given) for answer in given) for given in answers]
    assert 100 * sum(best) / 41 == pytest.approx(93.17, abs=0.005)


@pytest.mark.slow
def test_tiny_learns_questions_by_heart(data_root: Path, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("questions.json", "annotations.json"):
        shutil.copy(data_root / "vl_samples/vqav2" / name, tmp_path / name)
    asked = json.loads((tmp_path / "questions.json").read_text())["questions"]
    for number in {question["image_id"] for question in asked}:
        pixels = cv2.imread(str(data_root / f"coco_sample/train2017/{number:012d}.jpg"))
        pixels = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / "images" / f"{number:012d}.jpg"), pixels)
    work_dir = tmp_path / "run"
    out = tmp_path / "submission.json"
    _tool("train.py", TINY, "--work-dir", work_dir, data=tmp_path)
    checkpoint = next(work_dir.glob("iter_*.pth"))
    test = tmp_path / "test"
    _tool("test.py", TINY, checkpoint, "--work-dir", test, "--out", out, data=tmp_path)
    metrics = json.loads((test / "metrics.json").read_text())["metrics"]
    print(metrics)
    assert metrics["vqa/accuracy"] >= 93  # of 93.17
    assert len(json.loads(out.read_text())) == 41


def _tool(name: str, *arguments: str | Path, data: Path) -> None:
    command = [sys.executable, ROOT / "tools" / name, *arguments]
    done = run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=data,
        env={**os.environ, "MMBEIT3_DATA": str(data)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
