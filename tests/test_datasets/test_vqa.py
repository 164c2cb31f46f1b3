"""Questions with answers: items, the list of answers, and entries that cannot be used, by name."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmbeit3.datasets import VQAv2Dataset
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError

from .test_caption_fuzzing import mutated_values

NAMES = ("COCO_train2014_000000000042.jpg", "COCO_train2014_000000000043.jpg")
TEST_PIPELINE = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(16, 16), keep_ratio=False),
    dict(type="PackImageText"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of train2014, and one of val2014 and of test2015, in folders of their own."""
    draw = np.random.default_rng(0)
    for split, names in (
        ("train2014", NAMES),
        ("val2014", ["COCO_val2014_000000000007.jpg"]),
        ("test2015", ["COCO_test2015_000000000001.jpg"]),
    ):
        (tmp_path / split).mkdir()
        for name in names:
            pixels = draw.integers(0, 256, (24, 20, 3), np.uint8)
            cv2.imwrite(str(tmp_path / split / name), pixels)
    return tmp_path


def question(number: int, image: int, text: str = "What is it?", **changes: Any) -> dict:
    return {"question_id": number, "image_id": image, "question": text} | changes


def annotation(number: int, image: int, answers: list[str], main: str, **changes: Any) -> dict:
    return {
        "question_id": number,
        "image_id": image,
        "answers": [
            {"answer": answer, "answer_id": n, "answer_confidence": "yes"}
            for n, answer in enumerate(answers, start=1)
        ],
        "multiple_choice_answer": main,
        "answer_type": "other",
        "question_type": "what is",
    } | changes


TRAIN_QUESTIONS = [question(420, 42), question(421, 42, "How many?"), question(430, 43)]
TRAIN_ANSWERS = [
    annotation(420, 42, ["a net"] * 4 + ["net"] * 3 + ["The Net", "web", "rope"], "a net"),
    annotation(421, 42, ["none"] * 5 + ["0"] * 2 + ["two", "2", "2"], "none", answer_type="number"),
    annotation(430, 43, ["don't know"] * 10, "dont know"),
]
VAL_QUESTIONS = [question(70, 7), question(71, 7)]
VAL_ANSWERS = [
    annotation(70, 7, ["net"] * 10, "net"),
    annotation(71, 7, ["web"] * 8 + ["net"] * 2, "web"),
]


def write(root: Path, **contents: Any) -> None:
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (root / f"{name}.json").write_text(text, encoding="utf-8")


def official(root: Path) -> None:
    """Small files as the official ones."""
    write(
        root,
        q_train={"questions": TRAIN_QUESTIONS, "data_subtype": "train2014"},
        a_train={"annotations": TRAIN_ANSWERS, "data_subtype": "train2014"},
        q_val={"questions": VAL_QUESTIONS, "data_subtype": "val2014"},
        a_val={"annotations": VAL_ANSWERS, "data_subtype": "val2014"},
        q_test={"questions": [question(10, 1)], "data_subtype": "test-dev2015"},
    )


BOTH = dict(questions=["q_train.json", "q_val.json"], annotations=["a_train.json", "a_val.json"])
TRAIN = dict(questions="q_train.json", annotations="a_train.json")
VAL = dict(questions="q_val.json", annotations="a_val.json", test_mode=True)


def build(root: Path, kind: str = "VQAv2Dataset", **options: Any) -> Any:
    with DefaultScope.overwrite_default_scope("mmbeit3"):
        return DATASETS.build(dict(type=kind, data_root=str(root)) | options)


def numbers(dataset: Any) -> list[int]:
    return [dataset.get_data_info(index)["question_id"] for index in range(len(dataset))]


def test_items_have_the_raw_answers_and_their_official_scores(folder: Path) -> None:
    official(folder)
    dataset = build(folder, **BOTH, min_count=1, pipeline=TEST_PIPELINE)
    assert dataset.metainfo["classes"] == ("net", "0", "don't know", "web")
    item = dataset.get_data_info(0)
    assert item["img_path"] == str(folder / "train2014" / NAMES[0])
    assert (item["texts"], item["text_ids"], item["image_id"]) == (["What is it?"], [420], 42)
    assert (item["question_type"], item["answer_type"]) == ("what is", "other")
    assert len(item["answers"]) == 10
    # 'a net' and 'The Net' are other texts than the list's 'net', as in the released code
    assert (item["answer_labels"], item["answer_scores"]) == ([0, 3], [0.9, 0.3])
    # of five 'none' and two '0' the two count
    assert dataset.get_data_info(1)["answer_scores"] == [0.6]
    sample = dataset[4]
    assert sample["inputs"].shape == (3, 16, 16)
    assert sample["data_samples"].answer_scores == [1.0, 0.6]
    assert sample["data_samples"].question_id == 71


def test_the_list_is_in_the_order_of_the_files_and_of_first_appearance(folder: Path) -> None:
    official(folder)
    reverse = {key: names[::-1] for key, names in BOTH.items()}
    classes = build(folder, **reverse, min_count=1).metainfo["classes"]
    assert classes == ("net", "web", "0", "don't know")
    assert build(folder, **BOTH, min_count=2).metainfo["classes"] == ("net",)
    key, names = VQAv2Dataset.read_class_names(
        dict(type="mmbeit3.VQAv2Dataset", data_root=str(folder), min_count=1, **BOTH)
    )
    assert (key, names) == ("annotations", ("net", "0", "don't know", "web"))


def test_training_leaves_out_what_no_answer_of_the_list_fits(folder: Path) -> None:
    official(folder)
    assert numbers(build(folder, **BOTH, min_count=2)) == [420, 70, 71]
    tested = build(folder, **VAL, metainfo=dict(classes=("web",)))
    assert numbers(tested) == [70, 71]
    assert tested.get_data_info(0)["answer_labels"] == []
    with pytest.raises(InputError, match="no question has an answer in the list of 1.*min_count"):
        build(folder, **TRAIN, metainfo=dict(classes=("hat",)))
    with pytest.raises(InputError, match="none of the 3 answers is that of 9 questions"):
        build(folder, **TRAIN)


def test_test_files_have_no_annotations(folder: Path) -> None:
    official(folder)
    dataset = build(folder, questions="q_test.json", test_mode=True)
    item = dataset.get_data_info(0)
    assert item["img_path"].endswith("test2015/COCO_test2015_000000000001.jpg")
    assert (item["answers"], item["answer_labels"]) == ([], [])
    assert "answer_type" not in item
    with pytest.raises(InputError, match="has no answers to learn"):
        build(folder, questions="q_test.json")


def test_images_may_be_in_the_folder_itself_under_other_names(folder: Path) -> None:
    official(folder)
    for number in (42, 43):
        (folder / "train2014" / f"COCO_train2014_{number:012d}.jpg").rename(
            folder / f"{number:06d}.png"
        )
    (folder / "train2014").rmdir()
    dataset = build(folder, **TRAIN, min_count=1)
    assert dataset.get_data_info(2)["img_path"] == str(folder / "000043.png")


def test_validation_images_are_drawn_from_the_last_file(tmp_path: Path) -> None:
    parts = {"train": range(10), "val": range(100, 120)}
    for name, images in parts.items():
        (tmp_path / f"{name}2014").mkdir()
        for image in images:
            file = tmp_path / f"{name}2014" / f"COCO_{name}2014_{image:012d}.jpg"
            cv2.imwrite(str(file), np.zeros((4, 4, 3), np.uint8))
        entries = [(10 * image + n, image) for image in images for n in range(3)]
        write(
            tmp_path,
            **{f"q_{name}": {"questions": [question(*e) for e in entries]}},
            **{f"a_{name}": {"annotations": [annotation(*e, ["x"], "x") for e in entries]}},
        )
        data = json.loads((tmp_path / f"q_{name}.json").read_text())
        write(tmp_path, **{f"q_{name}": data | {"data_subtype": f"{name}2014"}})
    train = numbers(build(tmp_path, **BOTH, min_count=1, val_images=5))
    val = numbers(build(tmp_path, **VAL, min_count=1, val_images=5))
    assert len(val) == 15 and len({number // 10 for number in val}) == 5
    assert sorted(train + val) == [10 * i + n for p in parts.values() for i in p for n in range(3)]
    assert numbers(build(tmp_path, **VAL, min_count=1, val_images=5)) == val
    assert numbers(build(tmp_path, **VAL, min_count=1, val_images=5, val_seed=1)) != val
    with pytest.raises(InputError, match="val_images is 20, and .* has 20 images: set"):
        build(tmp_path, **VAL, min_count=1, val_images=20)


def changed(entries: list[dict], index: int, **values: Any) -> list[dict]:
    entries = [dict(entry) for entry in entries]
    entries[index] |= values
    return entries


def without(entries: list[dict], index: int, key: str) -> list[dict]:
    entries = [dict(entry) for entry in entries]
    del entries[index][key]
    return entries


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (without(TRAIN_QUESTIONS, 1, "image_id"), r"questions\[1\] \(id 421\): 'image_id' is mis"),
        (changed(TRAIN_QUESTIONS, 0, image_id=None), r"\(id 420\): image_id is None, expected a w"),
        (changed(TRAIN_QUESTIONS, 2, image_id=44), r"\(id 430\): its image 44 is not in .*000044"),
        (changed(TRAIN_QUESTIONS, 2, image_id="43"), r"\(id 430\): image_id is '43'"),
        (
            changed(TRAIN_QUESTIONS, 1, question=" "),
            r"\(id 421\): question is ' ', expected a word",
        ),
        (changed(TRAIN_QUESTIONS, 1, question=None), "question is None, expected a text"),
        (changed(TRAIN_QUESTIONS, 1, question_id=420), r"questions\[0\] .* the same question_id"),
        (
            [*TRAIN_QUESTIONS, question(431, 43)],
            r"\(id 431\): a_train.json has no annotation of it",
        ),
        (TRAIN_QUESTIONS[:2], r"annotations\[2\] \(id 430\): no question has the question_id 430"),
        (["x"], r"questions\[0\]: is text, expected an object"),
        ({}, "q_train.json has no list 'questions'"),
        ([], "no question has the question_id 420"),
    ],
)
def test_mistakes_in_questions_are_named(folder: Path, questions: Any, message: str) -> None:
    official(folder)
    write(folder, q_train={"questions": questions, "data_subtype": "train2014"})
    with pytest.raises(InputError, match=message):
        build(folder, **TRAIN, min_count=1)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (changed(TRAIN_ANSWERS, 1, answers=[]), r"\[1\] \(id 421\): answers is empty, expected an"),
        (changed(TRAIN_ANSWERS, 1, answers=[{"answer": " "}]), "answers is without a word"),
        (changed(TRAIN_ANSWERS, 1, answers="yes"), "answers is text, expected a list"),
        (changed(TRAIN_ANSWERS, 1, answers=["yes"]), r"answers\[0\] is text, expected an object"),
        (changed(TRAIN_ANSWERS, 1, answers=[{"answer": 2}]), r"answers\[0\] is 2, expected a text"),
        (changed(TRAIN_ANSWERS, 2, question_id=420), "another annotation has the same question_id"),
        (changed(TRAIN_ANSWERS, 2, image_id=42), r"image_id is 42, and questions\[2\] .* about 43"),
        (changed(TRAIN_ANSWERS, 0, answer_type=3), "answer_type is 3, expected a text"),
        (TRAIN_ANSWERS[:2], r"questions\[2\] \(id 430\): a_train.json has no annotation of it"),
        ("{", "not valid JSON"),
    ],
)
def test_mistakes_in_annotations_are_named(folder: Path, annotations: Any, message: str) -> None:
    official(folder)
    is_text = isinstance(annotations, str)
    write(folder, a_train=annotations if is_text else {"annotations": annotations})
    with pytest.raises(InputError, match=message):
        build(folder, **TRAIN, min_count=1)


def test_mistakes_of_all_files_are_counted(folder: Path) -> None:
    official(folder)
    many = [question(1000 + n, 7, "") for n in range(25)]
    write(folder, q_val={"questions": many, "data_subtype": "val2014"})
    with pytest.raises(InputError, match=r"27 errors\n  q_val.json: questions\[0\](?s:.*)24 more"):
        build(folder, **BOTH, min_count=1)


def test_files_given_for_one_another_are_named(folder: Path) -> None:
    official(folder)
    with pytest.raises(InputError, match="a_train.json has no list 'questions'.*annotations"):
        build(folder, questions="a_train.json", annotations="a_train.json", min_count=1)
    with pytest.raises(InputError, match="2 questions files and 1 annotations files"):
        build(folder, questions=BOTH["questions"], annotations="a_train.json")
    with pytest.raises(InputError, match="has no ann_file: name the questions files"):
        build(folder, questions="q_train.json", ann_file="a_train.json")


@pytest.mark.parametrize("key", ["questions", "annotations"])
def test_absent_files_are_named_with_their_argument(folder: Path, key: str) -> None:
    official(folder)
    with pytest.raises(InputError, match=rf"no file .*nope.json; check data_root and {key}(?!\w)"):
        build(folder, **TRAIN | {key: "nope.json"})


def test_a_missing_folder_of_images_is_said_once(folder: Path) -> None:
    official(folder)
    for name in NAMES:
        (folder / "train2014" / name).unlink()
    (folder / "train2014").rmdir()
    with pytest.raises(InputError, match="2 of the 2 images .* are missing, .*train2014"):
        build(folder, **TRAIN, min_count=1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'image,question,answer\na.jpg,"What, then?",red\nb.jpg,How many?,2\n'),
        ("t.tsv", "answer\timage\tquestion\nred\ta.jpg\tWhat, then?\n2\tb.jpg\tHow many?\n"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "question": "What, then?", "answer": ["red", "red", "pink"]}\n'
            '{"image": "b.jpg", "question": "How many?", "answer": "2"}\n',
        ),
    ],
)
def test_tables_of_questions(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    for file in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(tmp_path / file), np.zeros((4, 4, 3), np.uint8))
    dataset = build(tmp_path, "VQATableDataset", ann_file=name)
    first, second = dataset.get_data_info(0), dataset.get_data_info(1)
    assert dataset.metainfo["classes"] == ("red", "2")
    assert (first["texts"], second["texts"]) == (["What, then?"], ["How many?"])
    assert (first["answer_labels"], second["answer_labels"]) == ([0], [1])
    # one answer alone is right; two of three are worth what the official rule gives them
    assert second["answer_scores"] == [1.0]
    assert first["answer_scores"] == [pytest.approx(2 / 3) if name == "t.jsonl" else 1.0]
    line = 1 if name == "t.jsonl" else 2
    assert (first["question_id"], first["image_id"], second["image_id"]) == (line, 0, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "image,question\na.jpg,Why?\n",
            "no column 'answer'; .*set image_column and",
        ),
        ("t.csv", "image,question,answer\na.jpg,,red\n", "line 2: question is '', expected a word"),
        ("t.csv", "image,question,answer\na.jpg,Why?,\n", "line 2: answer is '', expected a word"),
        ("t.csv", "image,question,answer\n,Why?,red\n", "line 2: image is '', expected the path"),
        ("t.csv", "image,question,answer\n", "it has no questions"),
        ("t.jsonl", '{"image": "a.jpg", "question": "Why?", "answer": []}', "answer is empty"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "question": "Why?", "answer": 3}',
            "an integer, expected",
        ),
        ("t.jsonl", '{"image": "a.jpg", "question": "Why?"}', "line 1: 'answer' is missing"),
        ("t.json", "{}", "suffix '.json'.*mmbeit3.VQAv2Dataset"),
    ],
)
def test_mistakes_in_tables_are_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        build(tmp_path, "VQATableDataset", ann_file=name)


def test_tables_to_test_need_no_answers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,question\na.jpg,Why?\n")
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    dataset = build(tmp_path, "VQATableDataset", ann_file="t.csv", test_mode=True)
    assert dataset.get_data_info(0)["answers"] == []


@pytest.mark.parametrize("name", ["q_train", "a_train"])
def test_mutations_are_read_or_refused(name: str, tmp_path: Path) -> None:
    draw = random.Random(0)
    num_refused = 0
    for _ in range(200):
        official(tmp_path)
        content = json.loads((tmp_path / f"{name}.json").read_text())
        write(tmp_path, **{name: mutated_values(content, draw)})
        dataset = VQAv2Dataset(**TRAIN, data_root=str(tmp_path), min_count=1, lazy_init=True)
        try:
            items = dataset.load_data_list()
        except InputError as error:
            num_refused += 1
            assert "_train.json" in str(error) and len(str(error)) < 5000
            continue
        for item in items:
            assert isinstance(item["img_path"], str) and item["texts"][0].strip()
            assert len(item["answer_labels"]) == len(item["answer_scores"]) > 0
    assert 40 < num_refused < 200
