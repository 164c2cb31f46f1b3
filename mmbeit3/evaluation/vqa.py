"""The accuracy of answers to questions, as VQAv2's official evaluation counts it."""

from __future__ import annotations

from collections.abc import Sequence

from mmbeit3.datasets.answers import answer_score, normalize_answer
from mmbeit3.utils import InputError


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Score an answer by those of people, from 0 to 1.

    The rule of GT-Vision-Lab/VQA since 2021: each of the people is left out in turn, and the answer
    is worth a third for each of the others who gave it, 1 at most; the mean counts. Where people
    differ, all answers are compared as :func:`mmbeit3.datasets.answers.normalize_answer` writes
    them. For less than four people see :func:`mmbeit3.datasets.answers.answer_score`.

    Args:
        prediction: The answer.
        answers: What people answered; VQAv2 has ten.

    Raises:
        InputError: There is no answer to compare with.
    """
    if not answers:
        raise InputError("there are no answers to compare with; expected those of people, 10 or so")
    prediction, answers = _on_one_line(prediction), [_on_one_line(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction = normalize_answer(prediction)
        answers = [normalize_answer(answer) for answer in answers]
    return answer_score(answers.count(prediction), len(answers))


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
