"""VQA and NLVR2 configs: their data sets read the official layouts and tables of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmbeit3.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BASES = CONFIGS / "_base_" / "datasets"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def write_images(*paths: Path) -> None:
    draw = np.random.default_rng(0)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw.integers(0, 256, (60, 80, 3), np.uint8))


def make_vqav2(root: Path) -> None:
    """Two images with a question each in train and val; one of them in test."""
    (root / "vqa").mkdir(parents=True)
    for part, (split, numbers) in enumerate((("train2014", (1, 2)), ("val2014", (3, 4)))):
        write_images(*(root / split / f"COCO_{split}_{n:012d}.jpg" for n in numbers))
        questions = [
            dict(question_id=10 * n + part, image_id=n, question=f"how many are on {n}?")
            for n in numbers
        ]
        answers = [
            dict(
                question_id=question["question_id"],
                image_id=question["image_id"],
                multiple_choice_answer="2" if question["image_id"] == 1 else "yes",
                answers=[dict(answer="2"), dict(answer="yes"), dict(answer="yes")],
                question_type="how many",
                answer_type="number",
            )
            for question in questions
        ]
        content = dict(questions=questions, data_subtype=split)
        name = f"v2_OpenEnded_mscoco_{split}_questions.json"
        (root / "vqa" / name).write_text(json.dumps(content))
        content = dict(annotations=answers, data_subtype=split)
        (root / "vqa" / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps(content))
    write_images(root / "test2015" / "COCO_test2015_000000000009.jpg")
    content = dict(
        questions=[dict(question_id=90, image_id=9, question="what is it?")],
        data_subtype="test2015",
    )
    name = "v2_OpenEnded_mscoco_test2015_questions.json"
    (root / "vqa" / name).write_text(json.dumps(content))


def make_nlvr2(root: Path) -> None:
    labels = root / "nlvr" / "nlvr2" / "data"
    labels.mkdir(parents=True)
    for split, folder in (("train", "images/train/7"), ("dev", "dev"), ("test1", "test1")):
        write_images(*(root / folder / f"{split}-5-0-img{side}.png" for side in (0, 1)))
        row = dict(identifier=f"{split}-5-0-1", sentence="there are two dogs", label="True")
        row |= {"directory": 7} if split == "train" else {}
        (labels / f"{split}.json").write_text(json.dumps(row) + "\n")


def datasets(name: str, root: Path, **changes: object) -> list:
    cfg = Config.fromfile(BASES / name)
    built = []
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        for loader in LOADERS:
            settings = cfg[loader].dataset
            settings.data_root = str(root)
            settings.update(changes if "annotations" in settings else {})
            if built:
                settings.metainfo = dict(classes=built[0].metainfo["classes"])
            built.append(DATASETS.build(settings))
    return built


def test_vqav2_in_its_official_layout(tmp_path: Path) -> None:
    make_vqav2(tmp_path)
    train, val, test = datasets("vqav2_480.py", tmp_path, val_images=1, min_count=1)
    assert [len(part) for part in (train, val, test)] == [3, 1, 1]
    packed = train[0]
    assert packed["inputs"].shape == (3, 480, 480)
    sample = packed["data_samples"]
    assert sample.texts == ["how many are on 1?"] and len(sample.answer_labels) >= 1
    images = {part[i]["data_samples"].image_id for part in (train, val) for i in range(len(part))}
    assert images == {1, 2, 3, 4}
    assert test[0]["data_samples"].question_id == 90


def test_nlvr2_in_its_official_layout(tmp_path: Path) -> None:
    make_nlvr2(tmp_path)
    for part, split in zip(
        datasets("nlvr2_224.py", tmp_path), ("train", "dev", "test1"), strict=True
    ):
        packed = part[0]
        assert packed["inputs"].shape == (2, 3, 224, 224)
        sample = packed["data_samples"]
        assert (sample.identifier, sample.gt_label) == (f"{split}-5-0-1", 1)
        assert part.metainfo["classes"] == ("False", "True")


@pytest.mark.parametrize("name", ["custom_vqa_480.py", "custom_nlvr2_224.py"])
def test_tables_of_ones_own(name: str, tmp_path: Path) -> None:
    write_images(*(tmp_path / "images" / f"{name}.png" for name in "ab"))
    vqa = "vqa" in name
    header = "image,question,answer" if vqa else "left,right,text,label"
    row = "a.png,how many?,two" if vqa else "a.png,b.png,both are red,False"
    for part in ("train", "val"):
        (tmp_path / f"{part}.csv").write_text(f"{header}\n{row}\n")
    train, val, test = datasets(name, tmp_path)
    shape = (3, 480, 480) if vqa else (2, 3, 224, 224)
    assert all(part[0]["inputs"].shape == shape for part in (train, val, test))
    assert train.metainfo["classes"] == (("two",) if vqa else ("False", "True"))
    sample = train[0]["data_samples"]
    assert sample.answer_labels == [0] if vqa else sample.gt_label == 0
