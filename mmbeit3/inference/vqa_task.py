"""The task of answering questions about images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.answer_writer import AnswerWriter
from mmbeit3.inference.answerer import Answerer
from mmbeit3.inference.asked_lists import ask_images
from mmbeit3.inference.image_list import NotListed, Source
from mmbeit3.inference.submissions import SubmissionTask
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="vqa")
class VQATask(SubmissionTask):
    """An answer, one of a list, to a question about an image."""

    inferencer_type = Answerer
    writer_type = AnswerWriter
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

    def writer(self, model: Answerer, out_dir: Path, **options: Any) -> AnswerWriter:
        """Make what writes the answers; with ``show_attention`` also where the model looked."""
        if options.get("show_attention"):
            model.show_attention()
        return AnswerWriter(out_dir)
