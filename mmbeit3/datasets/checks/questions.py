"""Questions about images with people's answers, and what keeps an entry from being one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmbeit3.datasets.checks.captions import find_wrong_encoding
from mmbeit3.datasets.checks.coco import Report, is_text, kind_of, shortened
from mmbeit3.utils import listed


@dataclass
class Question:
    """A question about an image, as a file has it.

    Attributes:
        question_id: A number that no other question has.
        text: It.
        image_id: A number that no other image of the data set has.
        file: The image's path below the folder of the images.
        place: Where it stands in the file, for messages.
        answers: What people answered; none where that is not known.
        main_answer: What most of them answered.
        answer_type: VQAv2's 'yes/no', 'number' or 'other', where the file says it.
        question_type: How it begins, such as 'what color is the', where the file says it.
    """

    question_id: int
    text: str
    image_id: int
    file: str
    place: str
    answers: list[str] = field(default_factory=list)
    main_answer: str | None = None
    answer_type: str | None = None
    question_type: str | None = None

    @property
    def files(self) -> list[str]:
        """The image."""
        return [self.file]

    @property
    def texts(self) -> list[str]:
        """The question."""
        return [self.text]

    @property
    def lines(self) -> list[str]:
        """The question, and how often each answer was given."""
        counts = [f"{answer} ({n})" for answer, n in Counter(self.answers).most_common()]
        return [self.text, *([listed(counts)] if counts else [])]


def check_questions(questions: Sequence[Question], report: Report) -> None:
    """Look at questions whose entries are well-formed.

    Warnings are blank answers, and text that was decoded by the wrong encoding.

    Args:
        questions: The questions.
        report: Takes the warnings.
    """
    for question in questions:
        if blank := sum(not answer.strip() for answer in question.answers):
            report.warn(
                f"{question.place}: {blank} of its {len(question.answers)} answers are empty"
            )
        for text in (question.text, *question.answers):
            if doubt := find_wrong_encoding(text):
                report.warn(f"{question.place}: {shortened(text)} {doubt}")


def answers_problem(answers: Any, key: str = "answers") -> str | None:
    """What keeps a value from being the list of people's answers to a question.

    Args:
        answers: The value.
        key: What the file calls it. Defaults to 'answers'.
    """
    if not isinstance(answers, list):
        return f"{key} is {kind_of(answers)}, expected a list of answers"
    for index, answer in enumerate(answers):
        if not is_text(answer):
            return f"{key}[{index}] is {shortened(answer)}, expected a text"
    if not any(answer.strip() for answer in answers):
        found = "empty" if not answers else "without a word"
        return f"{key} is {found}, expected an answer at least: write one, or leave the entry out"
    return None
