"""The task of finding images by texts and texts by images."""

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


@TASKS.register_module(name="retrieval")
class RetrievalTask(Task):
    """Images and texts of one space of features: trained and tested so far."""

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
            "models of the task 'retrieval' can be trained and tested here, not yet loaded: build "
            "mmbeit3.BEiT3Retrieval and use encode_image and encode_text"
        )

    def writer(self, model: Inferencer, out_dir: Path, **options: Any) -> ResultWriter:
        """Refuse, as :meth:`load`, without which there is no model."""
        raise InputError("there is nothing to write for the task 'retrieval'")

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Refuse: the numbers are in the metrics file."""
        raise InputError("a test of the task 'retrieval' has no predictions to write", "out")

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError("a test of the task 'retrieval' draws nothing", "show_dir")
