"""The task of writing what an image shows."""

from __future__ import annotations

from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.datasets.checks.captions import CaptionedImage
from mmbeit3.evaluation.captions.files import read_results
from mmbeit3.inference.caption_report import report_captions
from mmbeit3.inference.caption_writer import CaptionWriter
from mmbeit3.inference.captioner import Captioner
from mmbeit3.inference.submissions import SubmissionTask, report_note
from mmbeit3.registry import TASKS
from mmbeit3.utils import InputError


@TASKS.register_module(name="captioning")
class CaptioningTask(SubmissionTask):
    """A sentence for an image."""

    inferencer_type = Captioner
    writer_type = CaptionWriter
    pipeline_tag = "image-to-text"
    example = 'print(model.caption("photo.jpg"))'

    def write_report(
        self, cfg: Config, predictions: Path, out_dir: Path, dataset: Any, image_root: str
    ) -> None:
        """Write a page on the captions."""
        images, paths = [], []
        for index in range(len(dataset)):
            item = dataset.get_data_info(index)
            paths.append(Path(item["img_path"]))
            name = osp.relpath(paths[-1], image_root)
            image = CaptionedImage(item["image_id"], name, name, item["texts"])
            image.domain = item.get("domain")
            images.append(image)
        if not all(image.texts for image in images):
            raise InputError("the images have no captions to compare with; leave it out", "report")
        captions = {predictions.stem: list(read_results(predictions, images).values())}
        report_captions(images, paths, captions, out_dir, report_note(cfg, predictions))
