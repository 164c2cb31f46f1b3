"""The task of naming what an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.classification_writer import ClassificationWriter
from mmbeit3.inference.classifier import Classifier
from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.task import Task
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="classification")
class ClassificationTask(Task):
    """One class for an image."""

    inferencer_type = Classifier
    writer_type = ClassificationWriter
    pipeline_tag = "image-classification"
    options = ("templates",)

    def writer(self, model: Classifier, out_dir: Path, **options: Any) -> ClassificationWriter:
        """Make what writes the classes; ``templates`` are sentences about them."""
        if templates := options.get("templates"):
            model.set_classes(model.classes, templates)
        return ClassificationWriter(out_dir, model.classes)

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Refuse: the accuracy of each class is in the metrics file."""
        raise InputError(
            "a test of the task 'classification' has no predictions to write; `infer` gives those "
            "of a folder",
            "out",
        )

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError("a test of the task 'classification' draws nothing", "show_dir")
