"""Scores of captions: the values of the official program, by hand and next to it."""

from __future__ import annotations

import contextlib
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbeit3.datasets.checks.captions import CaptionedImage
from mmbeit3.evaluation import caption_scores
from mmbeit3.evaluation.captions.bleu import bleu
from mmbeit3.evaluation.captions.cider import cider
from mmbeit3.evaluation.captions.files import read_results
from mmbeit3.evaluation.captions.ngrams import count_ngrams
from mmbeit3.evaluation.captions.rouge import rouge_l
from mmbeit3.evaluation.captions.scores import format_scores
from mmbeit3.utils import InputError
from mmbeit3.utils.tables import csv_text

WORDS = ["a", "the", "dog", "cat", "red", "on", "runs", "sits", "grass", "-lrb-", "'s"]


def random_captions(seed: int, images: int) -> tuple[list[str], list[list[str]]]:
    """Candidates and references of few words, so that much is shared; some are empty."""
    draw = random.Random(seed)

    def caption() -> str:
        return " ".join(draw.choices(WORDS, k=draw.choice([0, 1, 2, 5, 9, 14])))

    references = [[caption() for _ in range(draw.randint(1, 6))] for _ in range(images)]
    candidates = [draw.choice([caption(), draw.choice(texts)]) for texts in references]
    return candidates, references


@pytest.mark.parametrize(("seed", "images"), [(0, 1), (1, 2), (2, 30), (3, 200)])
def test_equal_to_the_official_program(seed: int, images: int) -> None:
    package = "pycocoevalcap"
    pytest.importorskip(package)
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = random_captions(seed, images)
    counted = count_ngrams(candidates, references)
    truth = dict(enumerate(references))
    results = {index: [caption] for index, caption in enumerate(candidates)}
    with contextlib.redirect_stdout(io.StringIO()):
        expected = Bleu(4).compute_score(truth, results)[0]
    assert bleu(counted) == pytest.approx(expected, abs=1e-9)
    for found, peer in ((cider(counted), Cider()), (rouge_l(candidates, references), Rouge())):
        assert found == pytest.approx(peer.compute_score(truth, results)[1], abs=1e-9)


def test_cider_of_one_image_is_0() -> None:
    scores = caption_scores({1: ["a dog runs"]}, {1: "a dog runs"})
    assert scores["CIDEr"] == 0 and scores["BLEU-3"] == pytest.approx(1) and scores["ROUGE-L"] == 1


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["a dog runs", "two cats sleep"], 7.5),  # no n-gram of four words: 3 of 4 orders
        (["a dog runs on the grass", "two cats sleep in her bed"], 10.0),
    ],
)
def test_cider_of_perfect_captions(captions: list[str], expected: float) -> None:
    references = {index: [caption] for index, caption in enumerate(captions)}
    scores = caption_scores(references, dict(enumerate(captions)))
    assert scores["CIDEr"] == pytest.approx(expected)


def test_bleu_and_rouge_by_hand() -> None:
    # 3 of 4 words and 1 of 3 bigrams are right; the reference has 5 words.
    scores = caption_scores({1: ["the dog runs on grass"]}, {1: "a dog on grass"})
    penalty = np.exp(1 - 5 / 4)
    assert scores["BLEU-1"] == pytest.approx(penalty * 3 / 4)
    assert scores["BLEU-2"] == pytest.approx(penalty * (3 / 4 * 1 / 3) ** 0.5)
    precision, recall = 3 / 4, 3 / 5  # dog on grass
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert scores["ROUGE-L"] == pytest.approx(expected)


def test_a_word_counts_as_often_as_in_one_reference_and_the_shorter_length_is_closest() -> None:
    scores = caption_scores({1: ["the the cat", "the cat sat here on"]}, {1: "the the the the"})
    assert scores["BLEU-1"] == pytest.approx(2 / 4)  # 3 words and 5 are as close: no penalty


def test_order_of_images_and_types_of_ids_do_not_matter() -> None:
    candidates, references = random_captions(7, 40)
    by_number = caption_scores(dict(enumerate(references)), dict(enumerate(candidates)))
    names = {f"{index}.jpg": texts for index, texts in enumerate(references)}
    results = [{"image_id": f"{i}.jpg", "caption": c} for i, c in enumerate(candidates)]
    by_name = caption_scores(names, results[::-1])
    assert by_name["num_images"] == by_number["num_images"] == 40
    for name in ("BLEU-4", "ROUGE-L", "CIDEr"):
        assert by_name[name] == pytest.approx(by_number[name], abs=1e-12)


def test_empty_captions_score_0_and_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.captions.files.warn", said.append)
    references = {1: ["a dog runs"], 2: ["two cats sleep"], 3: ["a red car"]}
    full = caption_scores(references, {1: "a dog runs", 2: "two cats sleep", 3: "a bus"})
    scores = caption_scores(references, {1: "a dog runs", 2: " ", 3: ""})
    assert 0 < scores["CIDEr"] < full["CIDEr"]
    assert scores["ROUGE-L"] == pytest.approx(1 / 3)
    assert said == ["the results: 2 captions are empty, and score 0: the ids 2, 3"]


def coco(domains: bool = False, **image: Any) -> dict:
    return {
        "images": [
            {"id": index, **image}
            | ({"domain": f"{'in' if index < 3 else 'out'}-domain"} if domains else {})
            for index in range(6)
        ],
        "annotations": [
            {"id": 10 * index + j, "image_id": index, "caption": f"a {word} {noun}."}
            for index, word in enumerate(["red", "blue", "tall", "old", "wet", "new"])
            for j, noun in enumerate(("dog", "animal on grass"))
        ],
    }


RESULTS = [
    {"image_id": index, "caption": f"A {word} dog"}
    for index, word in enumerate(["red", "blue", "tall", "old", "wet", "big"])
]


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_files_of_every_kind_are_references(tmp_path: Path) -> None:
    results = write(tmp_path, "results.json", RESULTS)
    data = coco()
    expected = caption_scores(write(tmp_path, "coco.json", data), results)  # images without names
    assert expected["num_images"] == 6 and expected["tokenizer"] == "PTB rules in Python"
    texts = {i: [a["caption"] for a in data["annotations"] if a["image_id"] == i] for i in range(6)}
    karpathy = {
        "images": [
            {
                "filename": f"{index}.jpg",
                "split": "test" if index < 6 else "train",
                "cocoid": index,
                "sentences": [
                    {"raw": text, "sentid": 10 * index + j}
                    for j, text in enumerate(texts.get(index, ["unused"]))
                ],
            }
            for index in range(9)
        ]
    }
    rows = [f"{index}.jpg,{text}" for index in range(6) for text in texts[index]]
    table = "\n".join(["image,text", *rows])
    assert caption_scores(write(tmp_path, "dataset_coco.json", karpathy), results) == expected
    assert caption_scores(write(tmp_path, "own.csv", table), results) == expected
    assert caption_scores(texts, results) == expected


def test_results_by_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = coco()
    for image in data["images"]:
        image["file_name"] = f"val2014/{image['id']}.jpg"
    data["images"][5]["file_name"] = "other/4.jpg"
    references = write(tmp_path, "coco.json", data)
    names = [f"{index}.jpg" for index in range(4)] + ["val2014/4.jpg", "./other/4.jpg"]
    rows = [f"{name},{entry['caption']},0.5" for name, entry in zip(names, RESULTS, strict=True)]
    table = write(tmp_path, "captions.csv", "\n".join(["file_name,caption,score", *rows[::-1]]))
    expected = caption_scores(references, RESULTS)
    assert caption_scores(references, table) == expected
    said: list[str] = []
    monkeypatch.setattr("mmbeit3.evaluation.captions.files.warn", said.append)
    write(tmp_path, "captions.csv", "\n".join(["file_name,caption,score", "9.jpg,a,0", *rows]))
    assert caption_scores(references, table) == expected
    assert "1 captions are of images that are not in the references" in said[0]
    assert "left out: 9.jpg" in said[0]
    for change, message in (
        (rows[:5], "1 of the 6 images have no caption in .*: the ids 5"),
        ([*rows, rows[0]], r"results\[6\]: image_id 0 is there twice"),
        ([*rows, "4.jpg,a dog,0"], "line 8: several images of the references are called '4.jpg'"),
        (["8.jpg,a,0", *rows[1:]], "1 of the 6 images have no caption in .*: the ids 0"),
    ):
        write(tmp_path, "captions.csv", "\n".join(["file_name,caption,score", *change]))
        with pytest.raises(InputError, match=message):
            caption_scores(references, table)
    write(tmp_path, "captions.csv", "image,text\na.jpg,a dog\n")
    with pytest.raises(InputError, match="no column 'file_name' and 'caption'.* `mmbeit3 infer`"):
        caption_scores(references, table)


@pytest.mark.parametrize("name", ["=1.jpg", "-2/a.jpg", "@größe.png", "plain.jpg", "'=a.jpg"])
@pytest.mark.parametrize("caption", ["a dog", "-a dog", "=dog", "@dog", "'t is a dog"])
def test_results_are_found_whatever_a_spreadsheet_takes_them_for(
    name: str, caption: str, tmp_path: Path
) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(csv_text([("file_name", "caption"), (name, caption), ("b.jpg", "a cat")]))
    images = [
        CaptionedImage(number, file, file, ["a dog"]) for number, file in ((1, name), (2, "b.jpg"))
    ]
    assert read_results(table, images) == {1: caption, 2: "a cat"}


def test_domains_are_scored_by_themselves(tmp_path: Path) -> None:
    scores = caption_scores(write(tmp_path, "nocaps.json", coco(domains=True)), RESULTS)
    assert list(scores["domains"]) == ["in-domain", "out-domain"]
    part = coco()
    part["images"] = part["images"][:3]
    part["annotations"] = part["annotations"][:6]
    alone = caption_scores(write(tmp_path, "part.json", part), RESULTS[:3])
    del alone["tokenizer"]
    assert scores["domains"]["in-domain"] == alone
    table = format_scores(scores)
    assert "in-domain" in table and "all" in table and "tokenizer: PTB rules in Python" in table


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (RESULTS[:4], "answered_only: 2 of the 6 images have no caption in .*: the ids 4, 5"),
        ([], "6 of the 6 images have no caption"),
        ([*RESULTS, RESULTS[2]], r"results\[6\]: image_id 2 is there twice"),
        (
            [*RESULTS, {"image_id": 99, "caption": "a"}],
            r"results\[6\]: image_id 99 is not in the ref",
        ),
        (
            [{"image_id": "1", "caption": "a"}],
            "'1' is not in the references, whose ids are of another",
        ),
        ([{"image_id": 1.5, "caption": "a"}], "image_id is 1.5, expected an integer"),
        ([{"image_id": 1}], r"results\[0\]: 'caption' is missing"),
        ([{"image_id": 1, "caption": None}], "caption is None, expected a text"),
        ([["a"]], r"results\[0\]: is a list, expected an object"),
        (coco(), "top level is an object, .* are the two files swapped"),
    ],
)
def test_wrong_results_are_named(results: Any, message: str, tmp_path: Path) -> None:
    references = write(tmp_path, "coco.json", coco())
    with pytest.raises(InputError, match=message):
        caption_scores(references, write(tmp_path, "results.json", results))


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (RESULTS, "is this a results file"),
        (
            coco() | {"annotations": coco()["annotations"][2:]},
            r"images\[0\] .*no caption to compare",
        ),
        (coco() | {"annotations": []}, "'annotations' is empty"),
    ],
)
def test_wrong_references_are_named(references: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        caption_scores(write(tmp_path, "coco.json", references), RESULTS)
    with pytest.raises(InputError, match="expected a list of texts"):
        caption_scores({1: "a dog"}, {1: "a dog"})
    with pytest.raises(InputError, match="there are none"):
        caption_scores({}, {})


def test_answered_images_alone(tmp_path: Path) -> None:
    references = write(tmp_path, "coco.json", coco())
    scores = caption_scores(references, RESULTS[:4], answered_only=True)
    assert scores["num_images"] == 4
    with pytest.raises(InputError, match="6 of the 6 images"):
        caption_scores(references, [], answered_only=True)


@pytest.mark.parametrize("name", ["nope.json", "nope.csv"])
def test_absent_files_are_named_with_what_to_check(name: str, tmp_path: Path) -> None:
    absent = str(tmp_path / name)
    for given in ((absent, RESULTS), (write(tmp_path, "coco.json", coco()), absent)):
        with pytest.raises(InputError, match=f"there is no file {absent}; check the path"):
            caption_scores(*given)
