"""The task of writing what an image shows."""

from __future__ import annotations

from mmbeit3.inference.caption_writer import CaptionWriter
from mmbeit3.inference.captioner import Captioner
from mmbeit3.inference.submissions import SubmissionTask
from mmbeit3.registry import TASKS


@TASKS.register_module(name="captioning")
class CaptioningTask(SubmissionTask):
    """A sentence for an image."""

    inferencer_type = Captioner
    writer_type = CaptionWriter
