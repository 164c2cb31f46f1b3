"""Tests that write what an official server takes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from mmbeit3.inference.evaluation_outputs import EvaluationOutputs, evaluators
from mmbeit3.inference.task import Task
from mmbeit3.utils import InputError


class SubmissionTask(Task, ABC):
    """A task whose metrics write the file of an official server, their ``out_file``."""

    #: Of that file.
    submission_suffix: ClassVar[str] = ".json"

    def keep_predictions(self, cfg: Config, out: Path, outputs: EvaluationOutputs) -> None:
        """Have the metric write its submission file."""
        if out.suffix.lower() != self.submission_suffix:
            raise InputError(
                f"the file is {out.name!r}; expected the suffix {self.submission_suffix}, as "
                f"results of the task {self.writer_type.task!r} have it",
                "out",
            )
        found = evaluators(cfg)
        writers = [entry for entry in found if _takes_file(entry)]
        if not writers:
            names = ", ".join(str(entry.get("type")) for entry in found)
            raise InputError(f"the evaluators ({names}) write no file: leave it out", "out")
        for writer in writers:
            writer["out_file"] = outputs.file(out)
        cfg.test_evaluator = found

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: ``infer`` writes pages of pictures."""
        name = self.writer_type.task
        raise InputError(
            f"a test of the task {name!r} draws nothing; `infer` writes a page of pictures",
            "show_dir",
        )


def report_note(cfg: Config, predictions: Path) -> str:
    """What a page on a test is on."""
    return f"{predictions}, by {cfg.filename or 'a config'} from {cfg.load_from}"


def _takes_file(entry: Mapping[str, Any]) -> bool:
    kind = entry.get("type")
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    return kind is not None and "out_file" in signature(kind).parameters
