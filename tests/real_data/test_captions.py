"""Captions of real people, scored; the official numbers stand beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbeit3.evaluation import caption_scores

OFFICIAL = {
    "BLEU-1": 0.5794, "BLEU-2": 0.4044, "BLEU-3": 0.2785, "BLEU-4": 0.1908, "ROUGE-L": 0.3963,
}  # fmt: skip


@pytest.fixture
def files(data_root: Path) -> tuple[Path, Path]:
    folder = data_root / "coco_caption_eval"
    return folder / "captions_val2014_1000.json", folder / "captions_val2014_fakecap_results.json"


def test_official_scores_without_java(files: tuple[Path, Path]) -> None:
    scores = caption_scores(*files)
    assert {name: round(scores[name], 4) for name in OFFICIAL} == OFFICIAL
    assert scores["CIDEr"] == pytest.approx(0.599791, abs=1e-6)  # that of Java's words, 0.599791


@pytest.mark.slow  # Meteor takes 15 s
def test_official_scores_by_java(files: tuple[Path, Path]) -> None:
    pytest.importorskip("pycocoevalcap")
    scores = caption_scores(*files, java=True)
    assert scores["METEOR"] == pytest.approx(0.19525, abs=1e-5)
    for name, value in caption_scores(*files).items():
        if name != "tokenizer":
            assert scores[name] == pytest.approx(value, abs=1e-6)


def test_every_caption_of_photographs_is_found(data_root: Path) -> None:
    """The best score of people among themselves is far above that of another image's captions."""
    data = json.loads((data_root / "coco_sample/annotations/captions_val2017.json").read_text())
    texts: dict[int, list[str]] = {}
    for annotation in data["annotations"]:
        texts.setdefault(annotation["image_id"], []).append(annotation["caption"])
    references = {number: captions[1:] for number, captions in texts.items()}
    people = {number: captions[0] for number, captions in texts.items()}
    others = dict(zip(people, [*list(people.values())[1:], "a"], strict=True))
    right, wrong = (caption_scores(references, texts)["CIDEr"] for texts in (people, others))
    assert right > 5 * wrong
