"""The task of writing what an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.inference.caption_writer import CaptionWriter
from mmbeit3.inference.captioner import Captioner
from mmbeit3.inference.submissions import SubmissionTask
from mmbeit3.registry import TASKS


@TASKS.register_module(name="captioning")
class CaptioningTask(SubmissionTask):
    """A sentence for an image."""

    writer_type = CaptionWriter

    def load(
        self,
        cfg: Config,
        checkpoint: str | Path | Mapping[str, Any],
        device: str,
        dtype: str,
        compiles: bool,
    ) -> Captioner:
        """Load a trained writer of captions."""
        return Captioner(cfg, checkpoint, device, dtype, compiles)

    def writer(self, model: Captioner, out_dir: Path, **options: Any) -> CaptionWriter:
        """Make what writes the captions."""
        return CaptionWriter(out_dir)
