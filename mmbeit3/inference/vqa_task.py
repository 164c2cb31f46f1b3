"""The task of answering questions about images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.datasets.checks.questions import Question
from mmbeit3.inference.answer_report import read_answers, report_answers
from mmbeit3.inference.answer_writer import AnswerWriter
from mmbeit3.inference.answerer import Answerer
from mmbeit3.inference.asked_lists import ask_images
from mmbeit3.inference.image_list import NotListed, Source
from mmbeit3.inference.submissions import SubmissionTask, report_note
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="vqa")
class VQATask(SubmissionTask):
    """An answer, one of a list, to a question about an image."""

    inferencer_type = Answerer
    writer_type = AnswerWriter
    pipeline_tag = "visual-question-answering"
    example = 'print(model.answer("photo.jpg", "What color is the bus?"))'
    infer_options = " --questions questions.txt"
    options = ("questions", "show_attention")

    def list_sources(
        self,
        folder: Path,
        out_dir: Path,
        overlays: bool,
        not_listed: NotListed,
        options: Mapping[str, Any],
    ) -> Sequence[Source]:
        """List the questions; see :func:`mmbeit3.inference.asked_lists.ask_images`."""
        if "questions" not in options:
            raise InputError("this model answers questions: name a file of them", "questions")
        drawn = overlays and options.get("show_attention", False)
        return ask_images(options["questions"], folder, out_dir, drawn, not_listed)

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a page on the answers."""
        questions = [_question(dataset.get_data_info(index)) for index in range(len(dataset))]
        answers = {predictions.stem: read_answers(predictions, questions)}
        report_answers(questions, answers, out_dir, report_note(cfg, predictions))

    def writer(self, model: Answerer, out_dir: Path, **options: Any) -> AnswerWriter:
        """Make what writes the answers; with ``show_attention`` also where the model looked."""
        if options.get("show_attention"):
            model.show_attention()
        return AnswerWriter(out_dir)


def _question(item: Mapping[str, Any]) -> Question:
    [text] = item["texts"]
    number, path = item["question_id"], item["img_path"]
    return Question(
        number,
        text,
        item["image_id"],
        path,
        f"question {number} of {path}",
        item["answers"],
        answer_type=item.get("answer_type"),
        question_type=item.get("question_type"),
    )
