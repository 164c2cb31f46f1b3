"""The task of a pretraining: tests count, and there is nothing to infer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.task import Task
from mmbeit3.inference.writer import ResultWriter
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="pretraining")
class PretrainingTask(Task):
    """Masked data modeling, and image tokenizers."""

    writer_type = ResultWriter
    pipeline_tag = "image-feature-extraction"
    example = None

    def load(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: other models start from it."""
        raise InputError(
            "a pretraining finds nothing in images: start a model of a task from its checkpoint, "
            "as docs/pretraining.md says, and train that"
        )

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Refuse: the numbers are in the metrics file."""
        raise InputError("a test of the task 'pretraining' has no predictions to write", "out")

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError("a test of the task 'pretraining' draws nothing", "show_dir")
