"""VQAv2: questions about COCO's images with the answers of ten people each."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from os import path as osp
from typing import Any

from mmbeit3.datasets.answers import normalize_answer
from mmbeit3.datasets.checks.captions import text_problem
from mmbeit3.datasets.checks.coco import (
    Report,
    is_id,
    is_text,
    missing_key,
    no_garbage_collection,
    read_json,
    shortened,
)
from mmbeit3.datasets.checks.questions import Question, answers_problem
from mmbeit3.datasets.questions import QuestionsDataset
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS

SUBTYPE = re.compile(r"(train|val|test)(?:-dev)?(\d{4})")
NUMBER = re.compile(r"(\d+)\.\w+$")


@DATASETS.register_module()
class VQAv2Dataset(QuestionsDataset):
    """The official files of one or several splits, or files like them.

    A questions file has ``questions`` of ``question_id``, ``image_id`` and ``question``; an
    annotations file ``annotations`` of ``question_id``, ``answers`` with an ``answer`` each, and,
    as VQAv2 has them, ``multiple_choice_answer``, ``answer_type`` and ``question_type``.

    An image is the file whose name ends with its number, as COCO_val2014_000000000042.jpg. It is
    in the folder below ``data_prefix.img`` that the questions' ``data_subtype`` says (train2014,
    val2014, test2015 for test-dev2015, too), or, where there is none, in ``data_prefix.img``.

    The list of answers is made as that of BEiT-3's released checkpoints: the main answers as
    :func:`mmbeit3.datasets.answers.normalize_answer` writes them, in the order of the files. With
    train and val, in this order, and ``min_count=9``, it has 3,129.

    Args:
        questions (str | Sequence[str]): The questions files, on ``data_root``.
        annotations (str | Sequence[str], optional): The annotations file of each, in the same
            order. Defaults to None, as for the test splits: the answers are not known.
        min_count (int): See the base class. Defaults to 9.
        **kwargs: As in :class:`mmbeit3.datasets.questions.QuestionsDataset`, which also says what
            the items are. ``val_images`` are of the last file, as in the released code, which
            keeps 1,000 of val2014.
    """

    kind = "set of VQAv2 files"
    needs_ann_file = False
    #: Whether an image that is not in its folder is an error, where that holds others.
    needs_images = True
    list_arguments = (
        "annotations",
        "questions",
        "data_root",
        "data_prefix",
        "answers",
        "min_count",
    )

    def __init__(
        self,
        questions: str | Sequence[str],
        annotations: str | Sequence[str] | None = None,
        min_count: int = 9,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("ann_file"):
            raise InputError(
                "VQAv2Dataset has no ann_file: name the questions files by questions, and those of "
                "the answers by annotations"
            )
        root = kwargs.get("data_root") or ""
        self.questions = _paths(questions, root)
        self.annotations = _paths(annotations, root)
        if not self.questions:
            raise InputError("VQAv2Dataset has no questions: name a questions file at least")
        if annotations and len(self.annotations) != len(self.questions):
            raise InputError(
                f"there are {len(self.questions)} questions files and {len(self.annotations)} "
                "annotations files; expected one for each"
            )
        self._num_last = 0
        super().__init__(min_count=min_count, **kwargs)

    @property
    def source(self) -> str:
        """str: The questions files."""
        return " and ".join(self.questions)

    @no_garbage_collection()
    def read(self, report: Report) -> list[Question]:
        """Read the questions of all files; see the base class."""
        found: dict[int, Question] = {}
        for index, path in enumerate(self.questions):
            several = f"{osp.basename(path)}: " if len(self.questions) > 1 else ""
            before = len(found)
            self._read_questions(path, several, found, report)
            own = list(found.values())[before:]
            self._num_last = len(own)
            if self.annotations:
                _add_answers(self.annotations[index], own, report)
        return list(found.values())

    def last_file(self, questions: Sequence[Question]) -> Sequence[Question]:
        """Give the questions of the last file."""
        return questions[len(questions) - self._num_last :]

    def _read_questions(
        self, path: str, several: str, found: dict[int, Question], report: Report
    ) -> None:
        entries, data = _entries(path, "questions", several, report)
        folder, names = self._folder(data.get("data_subtype"))
        for index, entry in enumerate(entries):
            place = f"{several}{_place('questions', index, entry)}"
            problem = _question_problem(entry)
            if problem is None and entry["question_id"] in found:
                problem = f"{found[entry['question_id']].place} has the same question_id"
            if problem is None:
                number = entry["image_id"]
                name = names.get(number, "")
                if not name and not (names and self.needs_images):
                    name = f"{number:012d}.jpg"
                if not name:
                    problem = (
                        f"its image {number} is not in {osp.join(self.data_prefix['img'], folder)}"
                        f"; expected a file whose name ends with {number:012d}.jpg: check "
                        "data_prefix.img"
                    )
            if problem:
                report.error(f"{place}: {problem}")
                continue
            found[entry["question_id"]] = Question(
                entry["question_id"], entry["question"], number, osp.join(folder, name), place
            )

    def _folder(self, subtype: Any) -> tuple[str, Mapping[int, str]]:
        """The folder of a file's images below that of all, and their names by number."""
        match = SUBTYPE.fullmatch(subtype) if isinstance(subtype, str) else None
        folder = "".join(match.groups()) if match else ""
        if folder and (names := _names(osp.join(self.data_prefix["img"], folder))):
            return folder, names
        names = _names(self.data_prefix["img"])
        return ("", names) if names else (folder, {})


def _paths(files: str | Sequence[str] | None, root: str) -> list[str]:
    files = [files] if isinstance(files, str) else files or ()
    return [osp.join(root, file) for file in files]


def _names(folder: str) -> dict[int, str]:
    """Names of the images in a folder, by the number at their end."""
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return {}
    found: dict[int, str] = {}
    for name in names:
        number = NUMBER.search(name)
        if number and osp.splitext(name)[1].lower() in EXTENSIONS:
            found.setdefault(int(number[1]), name)
    return found


def _entries(path: str, key: str, several: str, report: Report) -> tuple[list, dict]:
    """The list of a file, and the file; an empty list where there is none."""
    data = read_json(path, f"check data_root and {key}")
    entries = data.get(key) if isinstance(data, dict) else None
    if isinstance(entries, list):
        return entries, data
    other = {"questions": "annotations", "annotations": "questions"}[key]
    has_other = isinstance(data, dict) and other in data
    hint = f"; it has {other!r}: name it by {other}" if has_other else ""
    report.error(f"{several}{osp.basename(path)} has no list {key!r}{hint}")
    return [], {}


def _question_problem(entry: Any) -> str | None:
    if problem := missing_key(entry, ("question_id", "image_id", "question")):
        return problem
    for key in ("question_id", "image_id"):
        if not is_id(entry[key]) or entry[key] < 0:
            return f"{key} is {shortened(entry[key])}, expected a whole number (64 bits)"
    return text_problem(entry["question"], "question")


def _add_answers(path: str, questions: Sequence[Question], report: Report) -> None:
    by_id = {question.question_id: question for question in questions}
    name = osp.basename(path)
    entries, _ = _entries(path, "annotations", "", report)
    answered: set[int] = set()
    for index, entry in enumerate(entries):
        problem = _annotation_problem(entry) or _match_problem(entry, by_id, answered)
        if problem:
            report.error(f"{name}: {_place('annotations', index, entry)}: {problem}")
            continue
        question = by_id[entry["question_id"]]
        answered.add(question.question_id)
        question.answers = [sys.intern(answer["answer"]) for answer in entry["answers"]]
        main = entry.get("multiple_choice_answer")
        if main is None:
            main = Counter(question.answers).most_common(1)[0][0]
        question.main_answer = normalize_answer(main)
        question.answer_type = entry.get("answer_type")
        question.question_type = entry.get("question_type")
    if entries:
        for question in questions:
            if question.question_id not in answered:
                report.error(f"{question.place}: {name} has no annotation of it")


def _annotation_problem(entry: Any) -> str | None:
    if problem := missing_key(entry, ("question_id", "answers")):
        return problem
    if not is_id(entry["question_id"]):
        return (
            f"question_id is {shortened(entry['question_id'])}, expected a whole number (64 bits)"
        )
    for key in ("multiple_choice_answer", "answer_type", "question_type"):
        if not is_text(entry.get(key) or ""):
            return f"{key} is {shortened(entry[key])}, expected a text"
    answers = entry["answers"]
    if isinstance(answers, list):
        for index, answer in enumerate(answers):
            if problem := missing_key(answer, ("answer",)):
                return f"answers[{index}] {problem}"
        answers = [answer["answer"] for answer in answers]
    return answers_problem(answers)


def _match_problem(
    entry: dict, questions: Mapping[int, Question], answered: Set[int]
) -> str | None:
    """What keeps a well-formed annotation from belonging to a question."""
    number = entry["question_id"]
    if number in answered:
        return "another annotation has the same question_id"
    if number not in questions:
        return f"no question has the question_id {number}"
    question = questions[number]
    if entry.get("image_id", question.image_id) != question.image_id:
        return (
            f"image_id is {shortened(entry['image_id'])}, and {question.place} is about "
            f"{question.image_id}"
        )
    return None


def _place(key: str, index: int, entry: Any) -> str:
    known = isinstance(entry, dict) and "question_id" in entry
    return f"{key}[{index}]" + (f" (id {shortened(entry['question_id'])})" if known else "")
