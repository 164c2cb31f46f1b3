"""The task of finding images by texts and texts by images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.retrieval_writer import RetrievalWriter
from mmbeit3.inference.retriever import Retriever
from mmbeit3.inference.task import Task
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="retrieval")
class RetrievalTask(Task):
    """Images and texts as features of one space."""

    inferencer_type = Retriever
    writer_type = RetrievalWriter
    options = ("texts", "templates", "top")

    def writer(self, model: Retriever, out_dir: Path, **options: Any) -> RetrievalWriter:
        """Make what writes the features and what is found by them."""
        if templates := options.pop("templates", None):
            if not model.classes:
                raise InputError(
                    "templates are sentences about classes, and no classes are given", "templates"
                )
            model.set_classes(model.classes, templates)
        return RetrievalWriter(out_dir, model, **options)

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Refuse: the numbers are in the metrics file."""
        raise InputError(
            "a test of the task 'retrieval' has no predictions to write; `infer` writes features "
            "and rankings",
            "out",
        )

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError(
            "a test of the task 'retrieval' draws nothing; `infer` with texts writes a page of "
            "pictures",
            "show_dir",
        )
