"""The task of naming what an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.evaluation_outputs import EvaluationOutputs
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.inference.task import Task
from mmbeit3.inference.writer import ResultWriter
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="classification")
class ClassificationTask(Task):
    """One class for an image: trained and tested so far."""

    def load(
        self,
        cfg: Config,
        checkpoint: str | Path | Mapping[str, Any],
        device: str,
        dtype: str,
        compiles: bool,
    ) -> Inferencer:
        """Refuse to load a model."""
        raise InputError(
            "models of the task 'classification' can be trained and tested here, not yet loaded: "
            "mmbeit3.apis.classify_folder names the images of a folder"
        )

    def writer(self, model: Inferencer, out_dir: Path, **options: Any) -> ResultWriter:
        """Refuse, as :meth:`load`, without which there is no model."""
        raise InputError("there is nothing to write for the task 'classification'")

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Refuse: the accuracy of each class is in the metrics file."""
        raise InputError(
            "a test of the task 'classification' has no predictions to write; "
            "mmbeit3.apis.classify_folder gives those of a folder",
            "out",
        )

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError("a test of the task 'classification' draws nothing", "show_dir")
