"""Questions about images, answered from a list: what all their formats have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from os import path as osp
from typing import Any

from mmengine.logging import print_log

from mmbeit3.datasets.answers import answer_score, checked_answers, make_answers, read_answers
from mmbeit3.datasets.checks.coco import (
    MAX_EXAMPLES,
    Report,
    no_garbage_collection,
    raise_on_errors,
)
from mmbeit3.datasets.checks.questions import Question, check_questions
from mmbeit3.datasets.text_dataset import TextDataset, draw_images
from mmbeit3.utils import InputError, compare_classes


class QuestionsDataset(TextDataset):
    """Images with questions; label i is the answer ``metainfo["classes"][i]``.

    An item is a question: ``image_id`` (int), ``img_path``, ``question_id`` (int), ``texts``
    (list[str], the question), ``text_ids`` (list[int], its id), ``answers`` (list[str], what people
    answered, none where that is not known), ``answer_labels`` (list[int]) and ``answer_scores``
    (list[float]), those of the list with what :func:`mmbeit3.datasets.answers.answer_score` gives
    them, and where the file has them ``answer_type`` and ``question_type``.

    As in the released code, answers are looked up in the list as they stand in the file, and
    questions that have no answer in it are left out of training.

    Args:
        answers (str, optional): The list of answers, on ``data_root``: see
            :func:`mmbeit3.datasets.answers.read_answers`. Defaults to None: it is made of the
            questions' own, in the order in which they come first.
        min_count (int): To how many questions an answer of such a list must be the main one.
            Defaults to 1.
        val_images (int, optional): Set so many images of the last file aside for validation:
            training leaves them out, and with ``test_mode`` only they are there. Defaults to None,
            all images in both.
        val_seed (int): Draws them. Defaults to 0.
        metainfo (dict, optional): ``classes``, the list itself, as a checkpoint has it. Defaults to
            None.
        **kwargs: As in :class:`mmbeit3.datasets.text_dataset.TextDataset`.

    Raises:
        InputError: See there; or the list cannot be used.
    """

    METAINFO: dict = {"class_word": "answer"}
    kind = "file of questions"
    text_name = "questions"
    #: Arguments on which the list depends.
    list_arguments: tuple[str, ...] = (
        "ann_file",
        "data_root",
        "data_prefix",
        "answers",
        "min_count",
    )

    def __init__(
        self,
        answers: str | None = None,
        min_count: int = 1,
        val_images: int | None = None,
        val_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        for name, value in (("min_count", min_count), ("val_images", val_images)):
            if value is not None and (type(value) is not int or value < 1):
                raise InputError(f"{name} is {value!r}, expected a whole number from 1 on")
        self.answers = answers and osp.join(kwargs.get("data_root") or "", answers)
        self.min_count = min_count
        self.val_images = val_images
        self.val_seed = val_seed
        super().__init__(**kwargs)

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Read the answers of a data set that is not built.

        Args:
            config: Its arguments.

        Returns:
            The argument that says where they are, and the answers in the order of the labels.

        Raises:
            InputError: They cannot be read or made.
        """
        given = {key: config[key] for key in cls.list_arguments if key in config}
        dataset = cls(**given, lazy_init=True)
        if dataset.answers is not None:
            return "answers", read_answers(dataset.answers)
        _, report = dataset.inspect()
        raise_on_errors(report, dataset.source, dataset.kind)
        return cls.list_arguments[0], dataset._metainfo["classes"]

    def inspect(self, max_examples: int = MAX_EXAMPLES) -> tuple[list[Question], Report]:
        """Read and check the questions; see the base class.

        ``metainfo["classes"]`` is there afterwards, if it can be known.
        """
        questions, report = super().inspect(max_examples)
        check_questions(questions, report)
        if not report.num_errors:
            self._name_answers(questions)
            questions = self._part(questions)
        return questions, report

    @no_garbage_collection()
    def items_of(self, entries: Iterable[Question]) -> list[dict]:
        """Turn questions into the items of the data set."""
        labels = {answer: n for n, answer in enumerate(self._metainfo.get("classes", ()))}
        items = [self._item(question, labels) for question in entries]
        if not labels:
            return items
        known = [item for item in items if item["answer_labels"]]
        answered = sum(bool(item["answers"]) for item in items)
        if answered:
            all_known = self.test_mode or len(known) == len(items)
            left_out = "" if all_known else "; training leaves the others out"
            print_log(
                f"{self.source}: {len(known):,} of {answered:,} questions "
                f"({len(known) / answered:.1%}) have an answer in the list of {len(labels):,}"
                f"{left_out}",
                "current",
            )
        if self.test_mode:
            return items
        if not known:
            raise InputError(
                f"{self.source}: no question has an answer in the list of {len(labels):,}, so "
                "there is nothing to learn: check answers and min_count"
            )
        return known

    def _item(self, question: Question, labels: Mapping[str, int]) -> dict:
        counts = Counter(question.answers)
        known = [answer for answer in counts if answer in labels]
        item = {
            "image_id": question.image_id,
            "img_path": self.paths_of(question)[0],
            "question_id": question.question_id,
            "answer_type": question.answer_type,
            "question_type": question.question_type,
            "texts": question.texts,
            "text_ids": [question.question_id],
            "answers": question.answers,
            "answer_labels": [labels[answer] for answer in known],
            "answer_scores": [answer_score(counts[a], len(question.answers)) for a in known],
        }
        return {key: value for key, value in item.items() if value is not None}

    def _name_answers(self, questions: Sequence[Question]) -> None:
        """Read or make the list, unless it is given."""
        if "classes" in self._metainfo:
            named = checked_answers(self._metainfo["classes"], "metainfo.classes")
            self._metainfo["classes"] = named
            self._check_file(named)
        elif self.answers is not None:
            self._metainfo["classes"] = read_answers(self.answers)
        elif main := [q.main_answer for q in questions if q.main_answer is not None]:
            answers = make_answers(main, self.min_count)
            if not answers:
                raise InputError(
                    f"{self.source}: none of the {len(set(main)):,} answers is that of "
                    f"{self.min_count} questions, so the list of answers would be empty: lower "
                    "min_count, or name a list by answers"
                )
            self._metainfo["classes"] = answers
        elif not self.test_mode:
            raise InputError(f"{self.source} has no answers to learn: name a file that has them")

    def _check_file(self, named: tuple[str, ...]) -> None:
        """Make sure that a list that is named, of a checkpoint say, is that of the file."""
        if self.answers is None or not osp.exists(self.answers):
            return
        in_file = read_answers(self.answers)
        if difference := compare_classes(self.answers, in_file, "the model", named, "answer"):
            raise InputError(
                f"{difference}. Answers are numbers to a model: give the list that it was trained "
                "with, or leave answers out, and its own is used"
            )

    def _part(self, questions: Sequence[Question]) -> list[Question]:
        """Leave the validation images out, or all others."""
        if self.val_images is None:
            return list(questions)
        images = [question.image_id for question in self.last_file(questions)]
        chosen = draw_images(images, self.val_images, self.val_seed, self.source)
        return [q for q in questions if (q.image_id in chosen) == self.test_mode]

    def last_file(self, questions: Sequence[Question]) -> Sequence[Question]:
        """Give those questions of which validation images are drawn: all, of a single file."""
        return questions
