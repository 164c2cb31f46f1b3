"""The task of judging statements about two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.asked_lists import state_pairs
from mmbeit3.inference.image_list import NotListed, Source
from mmbeit3.inference.judge import Judge
from mmbeit3.inference.judgment_writer import JudgmentWriter
from mmbeit3.inference.submissions import SubmissionTask
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="nlvr2")
class NLVR2Task(SubmissionTask):
    """Whether a statement about two images is true."""

    inferencer_type = Judge
    writer_type = JudgmentWriter
    example = 'print(model.judge("left.jpg", "right.jpg", "Both pictures show a bus."))'
    infer_options = " --statements statements.csv"
    options = ("statements",)
    submission_suffix = ".csv"

    def list_sources(
        self,
        folder: Path,
        out_dir: Path,
        overlays: bool,
        not_listed: NotListed,
        options: Mapping[str, Any],
    ) -> Sequence[Source]:
        """List the statements; see :func:`mmbeit3.inference.asked_lists.state_pairs`."""
        if "statements" not in options:
            raise InputError("this model judges statements: name a file of them", "statements")
        return state_pairs(options["statements"], folder)

    def writer(self, model: Judge, out_dir: Path, **options: Any) -> JudgmentWriter:
        """Make what writes the judgments."""
        return JudgmentWriter(out_dir)
