"""The answers that a model chooses from: their list, how texts become one, and what each is worth.

The rules are those of VQAv2: of its evaluation (GT-Vision-Lab/VQA, 2021) and of BEiT-3's released
data preparation, whose checkpoints depend on the order of the list.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmbeit3.datasets.checks.coco import Report, is_text, missing_key, raise_on_errors, shortened
from mmbeit3.datasets.table_rows import json_rows, read_lines
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = "zero one two three four five six seven eight nine ten"
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS.split())} | {"none": "0"}
ARTICLES = ("a", "an", "the")
CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""
# Each is found by what it is without one of its apostrophes.
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTED.split()
    for place, sign in enumerate(word)
    if sign == "'"
} | {"somebody'd": "somebodyd"}
DIGIT_GROUPS = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
MAX_PERIODS = 32  # re.UNICODE, which the official code hands to ``sub`` as the count
ENOUGH = 3  # equal answers of other people that make an answer fully right


@lru_cache(maxsize=1 << 16)  # most answers are there many times
def normalize_answer(text: str) -> str:
    """Write an answer as VQAv2's evaluation compares it: lower case, digits, no articles or signs.

    Args:
        text: The answer.
    """
    has_groups = DIGIT_GROUPS.search(text) is not None
    plain = text
    for sign in PUNCTUATION:
        is_beside_blank = f"{sign} " in text or f" {sign}" in text
        plain = plain.replace(sign, "" if is_beside_blank or has_groups else " ")
    plain = PERIOD.sub("", plain, count=MAX_PERIODS)
    words = [DIGITS.get(word, word) for word in plain.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def answer_score(count: int, total: int) -> float:
    """Score an answer by how many people gave it.

    Each of the people is left out in turn; the answer is fully right where three of the others gave
    it, and a third for each else. Of ten, one is worth .3, two .6, three .9, four 1. Where there
    are less than four, all others must have given it; a single answer is right or wrong.

    Args:
        count: How many gave it.
        total: How many were asked.
    """
    if total == 1:
        return float(count)
    enough = min(ENOUGH, total - 1)
    # count times one of those is left out, and the others times one of the others
    points = count * min(enough, count - 1) + (total - count) * min(enough, count)
    return points / (total * enough) if count else 0.0


def make_answers(answers: Iterable[str], min_count: int) -> tuple[str, ...]:
    """List the answers that are frequent, in the order in which they come first.

    Args:
        answers: The answer of each question.
        min_count: How often one must be there.
    """
    return tuple(answer for answer, n in Counter(answers).items() if n >= min_count)


def read_answers(path: str | Path) -> tuple[str, ...]:
    """Read a list of answers: label 0 is the first.

    Args:
        path: A text file of one answer a line, or of BEiT-3's ``answer2label.txt``: lines of
            ``{"answer": "net", "label": 0}``.

    Raises:
        InputError: The file is absent or unreadable, or a line cannot be used.
    """
    report = Report()
    text = read_lines(str(path), report, "answers")
    lines: Iterable[tuple[int, Any]]
    if is_json := text.lstrip().startswith("{"):
        lines = json_rows(text, report)
    else:
        lines = enumerate(map(str.strip, text.rstrip().split("\n")), start=1)
    first: dict[str, int] = {}
    for label, (line, entry) in enumerate(lines):
        problem = _entry_problem(entry, label) if is_json else _plain_problem(entry)
        answer = entry["answer"] if is_json and problem is None else entry
        if problem is None and first.setdefault(answer, line) != line:
            problem = f"{shortened(answer)} is the answer of line {first[answer]}, too"
        if problem:
            report.error(f"line {line}: {problem}")
    if not first and not report.num_errors:
        report.error("it has no answers")
    raise_on_errors(report, str(path), "list of answers")
    return tuple(first)


def write_answers(path: str | Path, answers: Sequence[str]) -> None:
    """Write a list of answers as BEiT-3's ``answer2label.txt``.

    Args:
        path: The file.
        answers: The answers in the order of the labels.
    """
    lines = (json.dumps({"answer": answer, "label": n}) for n, answer in enumerate(answers))
    write_whole(Path(path), "".join(f"{line}\n" for line in lines))


def checked_answers(answers: object, place: str) -> tuple[str, ...]:
    """Give answers that a config names as a tuple.

    Raises:
        InputError: They are no texts, or one is there twice.
    """
    if isinstance(answers, str) or not isinstance(answers, Sequence):
        raise InputError(
            f"{place} is {shortened(answers)}, expected a tuple of answers; a file of them is "
            "named by answers"
        )
    if not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{place} has entries that are no texts; expected the answers")
    if len(set(answers)) < len(answers):
        twice = next(answer for answer, n in Counter(answers).items() if n > 1)
        raise InputError(f"{place} has the answer {twice!r} twice; leave one of them out")
    return tuple(answers)


def _entry_problem(row: dict, label: int) -> str | None:
    if problem := missing_key(row, ("answer", "label")):
        return problem
    if not is_text(row["answer"]):
        return f"answer is {shortened(row['answer'])}, expected a text"
    if type(row["label"]) is not int or row["label"] != label:
        return (
            f"label is {shortened(row['label'])}, expected {label}: labels count the lines from 0 "
            "on"
        )
    return None


def _plain_problem(answer: str) -> str | None:
    return None if answer else "it is empty; its number is the label, so none may be left out"
