"""A page on which questions are answered wrong, and its numbers as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.datasets.answers import normalize_answer
from mmbeit3.datasets.checks.coco import (
    Report,
    is_text,
    kind_of,
    missing_key,
    raise_on_errors,
    read_json,
    shortened,
)
from mmbeit3.datasets.checks.questions import Question
from mmbeit3.datasets.vqa import VQAv2Dataset
from mmbeit3.evaluation import resampling
from mmbeit3.evaluation.vqa import vqa_accuracy
from mmbeit3.inference.report_page import begin, read_pictures, result_names, write_report
from mmbeit3.utils import InputError, listed

FREQUENT = 20  # answers of the confusion; others are one
BEGINNINGS = 40  # first words with numbers of their own; others are together
MAX_QUESTIONS = 3000  # that the page has in words
OF_ALL, OF_GROUP, OF_CELL = 200, 40, 8  # failures that are among them
SIDE = 280  # pixels of the longer side of a picture


def report_answer_files(
    results: Sequence[str | Path],
    ground_truth: str | Path,
    out_dir: str | Path,
    images: str | Path | None = None,
    questions: str | Path | None = None,
) -> dict[str, Any]:
    """Write a page on results of VQAv2, whoever made them; see :func:`report_answers`.

    Args:
        results: JSON lists of ``question_id`` and ``answer``, as the official server takes them.
        ground_truth: The annotations file.
        out_dir: Where the report goes; made if absent.
        images: Folder of the images, or of folders such as ``val2014``. Defaults to None: the page
            has no pictures.
        questions: The questions file.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: A file cannot be used, or they are not of the same questions.
    """
    begin(out_dir)
    if questions is None:
        raise InputError(
            "name the file of the questions: annotations have the answers", "questions"
        )
    # below a file there are no images
    folder = str(images) if images is not None else str(questions)
    dataset = VQAv2Dataset(
        str(questions),
        str(ground_truth),
        data_prefix={"img": folder},
        test_mode=True,
        lazy_init=True,
    )
    dataset.needs_images = False
    report = Report()
    asked = dataset.read(report)
    raise_on_errors(report, f"{questions} and {ground_truth}", dataset.kind)
    for question in asked:
        question.file = dataset.paths_of(question)[0]
    names = result_names(results)
    answers = {name: read_answers(path, asked) for name, path in zip(names, results, strict=True)}
    note = f"{' and '.join(map(str, results))}, next to {ground_truth}"
    return report_answers(asked, answers, out_dir, note, images is not None)


def read_answers(path: str | Path, questions: Sequence[Question]) -> list[str]:
    """Read a file of results: an answer for each question.

    Raises:
        InputError: An entry cannot be used, or there is not one for each question.
    """
    entries, report = read_json(path), Report()
    if not isinstance(entries, list):
        raise InputError(
            f"{path} is {kind_of(entries)}, expected a list of question_id and answer: are the "
            "results and the ground truth swapped?"
        )
    found: dict[Any, str] = {}
    for index, entry in enumerate(entries):
        problem = missing_key(entry, ("question_id", "answer"))
        if problem is None and not is_text(entry["answer"]):
            problem = f"answer is {shortened(entry['answer'])}, expected a text"
        if problem is None and entry["question_id"] in found:
            problem = f"question_id {entry['question_id']} is there twice"
        if problem:
            report.error(f"results[{index}]: {problem}")
        else:
            found[entry["question_id"]] = entry["answer"]
    raise_on_errors(report, str(path), "file of answers")
    known = {question.question_id for question in questions}
    others = [number for number in found if number not in known]
    missing = [question.question_id for question in questions if question.question_id not in found]
    if others or missing:
        raise InputError(
            f"{path} answers {len(found):,} questions, of which {len(others):,} are not asked "
            f"(question_id {listed(others, 3) or 'none'}), and {len(missing):,} of the "
            f"{len(known):,} that are asked have no answer ({listed(missing, 3) or 'none'}); "
            "expected one for each: are the results of another data set?"
        )
    return [found[question.question_id] for question in questions]


def report_answers(
    questions: Sequence[Question],
    results: Mapping[str, Sequence[str]],
    out_dir: str | Path,
    note: str,
    with_images: bool = True,
) -> dict[str, Any]:
    """Write a page on answers and its numbers, ``report.html`` and ``report.json``.

    Args:
        questions: The questions; ``file`` is the path of the image, ``answers`` are needed.
        results: The answer to each, by the name of the result; the others are compared with the
            first.
        out_dir: Where the two files go; made if absent.
        note: What the page is on.
        with_images: Whether the page has pictures. Defaults to True.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: Questions have no answers to compare with, or Jinja2 or Plotly is not installed.
    """
    begin(out_dir)
    without = [question.question_id for question in questions if not question.answers]
    if without or not questions:
        raise InputError(
            f"{len(without):,} of {len(questions):,} questions have no answers to compare with "
            f"(question_id {listed(without, 3)}); a report needs those of people"
        )
    types, type_of = _group([question.answer_type or "" for question in questions])
    words, word_of = _group(_beginnings(questions), BEGINNINGS)
    groups = [
        {"name": name, "kind": kind, "questions": number}
        for kind, names in (("answer type", types), ("first words", words))
        for name, number in names.items()
    ]
    truth = [_main(question) for question in questions]
    given = {name: list(map(normalize_answer, answers)) for name, answers in results.items()}
    counts = Counter(answer for answers in (truth, *given.values()) for answer in answers)
    frequent = [answer for answer, _ in counts.most_common(FREQUENT)]
    labels = {answer: number for number, answer in enumerate(frequent)}
    rows = np.array([labels.get(answer, len(frequent)) for answer in truth])
    scores, columns, measures, measured = [], [], [], []
    for name, answers in results.items():
        pairs = zip(answers, questions, strict=True)
        own = np.array([vqa_accuracy(answer, question.answers) for answer, question in pairs])
        scores.append(own)
        columns.append(np.array([labels.get(answer, len(frequent)) for answer in given[name]]))
        measures.append(
            resampling.group_means(100 * own, (type_of, len(types)), (word_of, len(words)))
        )
        values = measures[-1](np.ones(len(questions), np.int64)).tolist()
        confusion = np.zeros((len(frequent) + 1,) * 2, np.int64)
        np.add.at(confusion, (rows, columns[-1]), 1)
        measured.append(
            {
                "name": name,
                "accuracy": values[-1],
                "groups": values[:-1],
                "confusion": confusion.tolist(),
            }
        )
    comparisons = [resampling.compare(measures[0], other, len(questions)) for other in measures[1:]]
    content = {
        "kind": "answers",
        "questions": len(questions),
        "groups": groups,
        "answers": [*frequent, "other answers"],
        "results": measured,
        "comparisons": comparisons,
    }
    agreed = np.array([max(Counter(q.answers).values()) / len(q.answers) for q in questions])
    chosen = _choose(scores, columns, rows, agreed, (type_of, word_of + len(types)))
    files = list(dict.fromkeys(questions[index].file for index in chosen))
    places = {file: number for number, file in enumerate(files)}
    page = content | {
        "pictures": read_pictures(files, range(len(files) * with_images), SIDE),
        "entries": [
            {
                "image": places[questions[index].file],
                "name": osp.basename(questions[index].file),
                "question": questions[index].text,
                "answers": Counter(questions[index].answers).most_common(),
                "given": [answers[index] for answers in results.values()],
                "scores": [round(float(own[index]), 3) for own in scores],
                "groups": [int(type_of[index]), int(word_of[index]) + len(types)],
                "row": int(rows[index]),
                "columns": [int(own[index]) for own in columns],
            }
            for index in chosen
        ],
    }
    write_report(out_dir, "answers.html", "Questions and answers", note, page, content)
    return content


def _main(question: Question) -> str:
    """What most people answered."""
    return Counter(map(normalize_answer, question.answers)).most_common(1)[0][0]


def _beginnings(questions: Sequence[Question]) -> list[str]:
    """How questions begin: as their file says, else by their first two words."""
    if all(question.question_type for question in questions):
        return [question.question_type or "" for question in questions]
    return [" ".join(re.findall(r"\w+", question.text.lower())[:2]) for question in questions]


def _group(names: Sequence[str], most: int | None = None) -> tuple[dict[str, int], np.ndarray]:
    """Number the groups, the largest first and the rest as one: their sizes, and that of each."""
    counts = dict(Counter(names).most_common(most))
    rest = len(names) - sum(counts.values())
    if rest:
        counts["others"] = counts.get("others", 0) + rest
    places = {name: number for number, name in enumerate(counts)}
    return counts, np.array([places.get(name, len(counts) - 1) for name in names])


def _choose(
    scores: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    rows: np.ndarray,
    agreed: np.ndarray,
    groups: Sequence[np.ndarray],
) -> list[int]:
    """Questions that the page has in words: failures first, where people agree most."""
    chosen: dict[int, None] = {}
    mixed = np.random.default_rng(0).permutation(len(rows))  # not all of the first images
    for own, given in zip(scores, columns, strict=True):
        order = np.lexsort((mixed, -agreed, own))
        failures, right = order[own[order] < 1], order[own[order] == 1]
        chosen |= dict.fromkeys(failures[:OF_ALL].tolist())
        seen: Counter[Any] = Counter()
        for index in [*failures.tolist(), *right.tolist()]:
            keys = [(rows[index], given[index]), *(("group", group[index]) for group in groups)]
            limits = (OF_CELL, OF_GROUP, OF_GROUP)
            if any(seen[key] < limit for key, limit in zip(keys, limits, strict=True)):
                seen.update(keys)
                chosen[index] = None
            if len(chosen) >= MAX_QUESTIONS:
                break
    return list(chosen)
