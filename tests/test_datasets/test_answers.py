"""Answers as VQAv2's evaluation compares them, what each is worth, and lists of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbeit3.datasets import read_answers, write_answers
from mmbeit3.datasets.answers import answer_score, make_answers, normalize_answer
from mmbeit3.utils import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None", "0"),
        ("Two  dogs", "2 dogs"),
        ("a man and the dog", "man and dog"),
        ("The", ""),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("dog's", "dog's"),
        ("half-pipe", "half pipe"),
        ("t - shirt", "t shirt"),
        ("t- shirt", "t shirt"),
        ("1,000", "1000"),
        ("1,000 - 2/3", "1000 23"),  # one group of digits, and all signs go without a blank
        ("yes!", "yes"),
        ("3.5", "3.5"),
        ("u.s.a.", "usa"),
        ("5.", "5"),
        ("." * 40, "." * 8),  # the official code removes 32
        ("red, white", "red white"),
        ("café", "café"),
    ],
)
def test_normalizing_as_the_official_evaluation(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


def test_scores_of_ten_answers_are_the_official_ones() -> None:
    scores = [answer_score(count, 10) for count in range(6)]
    assert scores == [0, 0.3, 0.6, 0.9, 1, 1]


def test_scores_of_fewer_answers_reach_one() -> None:
    assert [answer_score(count, 1) for count in range(2)] == [0, 1]
    assert [answer_score(count, 2) for count in range(3)] == [0, 0.5, 1]
    assert answer_score(3, 3) == answer_score(4, 4) == 1


def test_lists_keep_the_order_of_first_appearance() -> None:
    assert make_answers(["b", "a", "c", "a", "b"], 2) == ("b", "a")


def test_lists_are_read_as_they_were_written(tmp_path: Path) -> None:
    answers = ("net", "", 'a "b"', "café", "2")
    file = tmp_path / "answer2label.txt"
    write_answers(file, answers)
    assert file.read_text().splitlines()[1] == '{"answer": "", "label": 1}'
    assert read_answers(file) == answers
    (tmp_path / "own.txt").write_bytes(b"yes\r\nno\r\nblack and white\r\n\r\n")
    assert read_answers(tmp_path / "own.txt") == ("yes", "no", "black and white")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"answer": "a", "label": 1}', "line 1: label is 1, expected 0: labels count the lines"),
        ('{"answer": "a", "label": 0}\n{"answer": "a", "label": 1}', "answer of line 1, too"),
        ('{"answer": 1, "label": 0}', "line 1: answer is 1, expected a text"),
        ('{"label": 0}', "line 1: 'answer' is missing"),
        ('{"answer": "a", "label": 0', "line 1: it is no JSON"),
        ("yes\n\nno\n", "line 2: it is empty; its number is the label"),
        ("yes\nno\nyes\n", "line 3: 'yes' is the answer of line 1, too"),
        ("", "line 1: it is empty"),
    ],
)
def test_mistakes_in_lists_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "answers.txt"
    file.write_text(content)
    with pytest.raises(InputError, match=f"not a usable list of answers(?s:.*){message}"):
        read_answers(file)


def test_an_absent_list_is_named_with_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").touch()
    with pytest.raises(InputError, match="data_root and answers; did you mean .*answers.txt"):
        read_answers(tmp_path / "Answers.txt")
