"""Questions and statements in configs: their classes, and what ``check-data`` says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmbeit3.apis.data_report import report_config
from mmbeit3.config import data_checks, resolve_classes
from mmbeit3.config.data_checks import check_training_data
from mmbeit3.datasets import VQAv2Dataset
from mmbeit3.datasets.checks.coco import Report
from mmbeit3.datasets.shape_captions import any_sentences
from mmbeit3.text import train_tokenizer
from mmbeit3.utils import InputError

PIPELINE = [dict(type="LoadImageFromFile", _scope_="mmbeit3"), dict(type="PackImageText")]
PAIRS = [dict(type="ForEachImage", transforms=PIPELINE[:1]), dict(type="PackImageText")]
TRAIN = "image,question,answer\na.png,What color?,red\na.png,How many?,2\nb.png,What color?,red\n"
VAL = "image,question,answer\nb.png,How many?,3\n"
STATEMENTS = "left,right,text,label\na.png,b.png,Two dogs.,True\nb.png,a.png,A cat.,False\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shape in (("a.png", (24, 40, 3)), ("b.png", (48, 20, 3))):
        cv2.imwrite(str(tmp_path / name), np.full(shape, 90, np.uint8))
    for name, text in (("train.csv", TRAIN), ("val.csv", VAL), ("pairs.csv", STATEMENTS)):
        (tmp_path / name).write_text(text)
    return tmp_path


def config(folder: Path, kind: str = "VQATableDataset", **options: Any) -> Config:
    base = dict(type=f"mmbeit3.{kind}", data_root=str(folder), pipeline=PIPELINE) | options
    train = dict(ann_file="train.csv") | base
    val = dict(ann_file="val.csv", test_mode=True) | base
    return Config(
        dict(
            default_scope="mmbeit3",
            model=dict(type="BEiT3VQA", num_classes=3129),
            train_dataloader=dict(dataset=train),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(dataset=val),
        )
    )


def test_all_data_sets_and_the_head_follow_the_training_answers(folder: Path) -> None:
    cfg = config(folder)
    assert resolve_classes(cfg) == ("red", "2")
    assert cfg.model.num_classes == 2
    assert cfg.val_dataloader.dataset.metainfo.classes == ("red", "2")
    cfg = config(folder)
    resolve_classes(cfg, dict(dataset_meta=dict(classes=("2", "red", "3"))))
    assert cfg.model.num_classes == 3
    assert cfg.test_dataloader.dataset.metainfo.classes == ("2", "red", "3")


@pytest.mark.parametrize(
    ("trained", "difference"),
    [
        (("red", "2", "3"), "2 answers, .* 3; the first difference is answer 2, none and '3'"),
        (("2", "red"), "2 answers, .* 2; the first difference is answer 0, 'red' and '2'"),
    ],
)
def test_another_answer_list_than_the_checkpoints_is_refused(
    folder: Path, trained: tuple[str, ...], difference: str
) -> None:
    meta = dict(dataset_meta=dict(classes=trained))
    cfg = config(folder, metainfo=dict(classes=("red", "2")))
    with pytest.raises(InputError, match=f"{difference}.*same answers in the same order"):
        resolve_classes(cfg, meta)
    (folder / "answers.txt").write_text("red\n2\n")
    cfg = config(folder, answers="answers.txt")
    resolve_classes(cfg, meta)
    with pytest.raises(InputError, match=f"answers.txt has {difference}.*leave answers out"):
        check_training_data(cfg)


def test_answers_are_reported_with_the_questions(folder: Path) -> None:
    (folder / "val.csv").write_text("image,question,answer\nb.png,,3\na.png,Why?,\nc.png,Why?,2\n")
    cfg = config(folder)
    out = folder / "out"
    report_config(cfg, ("train", "val"), out)
    train, val = json.loads((out / "report.json").read_text())
    assert (train["num_images"], train["num_texts"], train["text_name"]) == (2, 3, "questions")
    assert train["texts"] == [["What color?", "red (1)"], ["How many?", "2 (1)"]] + [
        ["What color?", "red (1)"]
    ]
    assert val["num_errors"] == 2 and "line 3: answer is ''" in val["errors"][1]
    with pytest.raises(InputError, match="val_dataloader.dataset: .*2 errors"):
        check_training_data(cfg)


def test_both_images_of_a_statement_are_shown(folder: Path) -> None:
    cfg = config(folder, "NLVR2TableDataset", ann_file="pairs.csv", pipeline=PAIRS)
    del cfg.model.num_classes
    out = folder / "out"
    report_config(cfg, ("train",), out)
    (report,) = json.loads((out / "report.json").read_text())
    assert (report["num_images"], report["num_texts"]) == (2, 2)
    assert report["texts"][0] == ["Two dogs.", "True"]
    assert Image.open(out / report["pictures"][0]).size == (40 + 1 + 10, 24)  # a gap between them


def official(root: Path) -> dict[str, Any]:
    """Questions in VQAv2's format about an image in a folder of its own, and a stray name."""
    (root / "images").mkdir()
    picture = np.zeros((8, 8, 3), np.uint8)
    cv2.imwrite(str(root / "images" / "COCO_000000000042.jpg"), picture)
    cv2.imwrite(str(root / "overview_2014.jpg"), picture)
    questions = [{"question_id": 1, "image_id": 42, "question": "What color is the sky here?"}]
    (root / "q.json").write_text(json.dumps({"questions": questions}))
    answers = [{"question_id": 1, "answers": [{"answer": "blue"}]}]
    (root / "a.json").write_text(json.dumps({"annotations": answers}))
    return dict(questions="q.json", annotations="a.json", min_count=1, ann_file="")


def test_answers_are_read_with_the_images_of_the_data_set(tmp_path: Path) -> None:
    given = official(tmp_path)
    cfg = config(tmp_path, "VQAv2Dataset", data_prefix=dict(img="images"), **given)
    assert resolve_classes(cfg) == ("blue",)
    check_training_data(cfg)


def test_questions_are_read_once_by_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = official(tmp_path)
    cfg = config(tmp_path, "VQAv2Dataset", data_prefix=dict(img="images"), **given)
    cfg.pop("val_dataloader")
    train_tokenizer(any_sentences(300), tmp_path / "t.spm")
    tokenizer = dict(file=str(tmp_path / "t.spm"))
    cfg.model.data_preprocessor = dict(tokenizer=tokenizer, max_length=4)
    read, said, times = VQAv2Dataset.read, list[str](), []

    def counted(self: VQAv2Dataset, report: Report) -> list:
        times.append(self)
        return read(self, report)

    monkeypatch.setattr(VQAv2Dataset, "read", counted)
    monkeypatch.setattr(data_checks, "warn", said.append)
    check_training_data(cfg)
    assert len(times) == 1
    assert len(said) == 1 and "1 of 1 texts are longer than 4 tokens" in said[0]
