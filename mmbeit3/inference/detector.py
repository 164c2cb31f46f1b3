"""A trained detector that takes images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.datasets.palette import make_palette
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.utils import InputError


class Detector(Inferencer):
    """A detector with trained weights; arguments and errors as :class:`Inferencer`."""

    scope = "mmdet"

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` and ``palette``; see :func:`checkpoint_classes`."""
        self.name_classes(checkpoint_classes(cfg, meta))

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Set ``classes`` and ``palette``."""
        self.classes = names
        self.palette = [(b, g, r) for r, g, b in make_palette(len(names))]

    def result(self, loaded: Loaded, sample: DetDataSample) -> DetectionResult:
        """Move the instances of an image to the CPU."""
        found = sample.pred_instances.cpu().numpy()
        if len(found.labels):
            self.check_label(int(found.labels.max()))
        return DetectionResult(
            loaded.source,
            loaded.image,
            found.bboxes.astype(np.float32, copy=False),
            found.labels,
            found.scores.astype(np.float32, copy=False),
            found.masks if "masks" in found else None,
            self.classes,
            self.palette,
        )


def checkpoint_classes(cfg: Config, meta: Any) -> tuple[str, ...]:
    """Find the names of the classes, and fit the model's heads to their number.

    The checkpoint knows what it was trained on; a file of weights alone does not, then the
    config's data set does.

    Raises:
        InputError: If neither names any.
    """
    if trained := dataset_meta_of(meta).get("classes"):
        follow_checkpoint(cfg, trained)
        return tuple(trained)
    configured = resolve_classes(cfg)
    if not configured:
        raise InputError(
            "neither the checkpoint nor the config names the classes: give the file that training "
            "wrote, or a config whose data set is a mmbeit3.CocoDataset"
        )
    return configured
