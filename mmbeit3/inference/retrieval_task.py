"""The task of finding images by texts and texts by images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from mmbeit3.inference.retrieval_report import report_rankings
from mmbeit3.inference.retrieval_writer import RetrievalWriter
from mmbeit3.inference.retriever import Retriever
from mmbeit3.inference.submissions import SubmissionTask, report_note
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="retrieval")
class RetrievalTask(SubmissionTask):
    """Images and texts as features of one space."""

    inferencer_type = Retriever
    report_predictions = "rankings.json"
    writer_type = RetrievalWriter
    pipeline_tag = "zero-shot-image-classification"
    example = 'print(model.search("a red car", model.index("photos"), top=5))'
    infer_options = " --texts queries.txt"
    options = ("texts", "templates", "top")
    export_kind = "dual encoder"

    def writer(self, model: Retriever, out_dir: Path, **options: Any) -> RetrievalWriter:
        """Make what writes the features and what is found by them."""
        if templates := options.pop("templates", None):
            if not model.classes:
                raise InputError(
                    "templates are sentences about classes, and no classes are given", "templates"
                )
            model.set_classes(model.classes, templates)
        return RetrievalWriter(out_dir, model, **options)

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a page on the rankings."""
        items = [dataset.get_data_info(index) for index in range(len(dataset))]
        pairs = (zip(item["text_ids"], item["texts"], strict=True) for item in items)
        report_rankings(
            json.loads(predictions.read_text(encoding="utf-8")),
            {item["image_id"]: item["img_path"] for item in items},
            {number: text for texts in pairs for number, text in texts},
            out_dir,
            report_note(cfg, predictions),
        )

    def drawing_hook(self, cfg: Config, meta: Mapping[str, Any], options: dict[str, Any]) -> Hook:
        """Refuse: there is nothing to draw on an image."""
        raise InputError(
            "a test of the task 'retrieval' draws nothing; `infer` with texts writes a page of "
            "pictures",
            "show_dir",
        )
