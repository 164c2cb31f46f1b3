"""A trained detector that takes image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.inference.inferencer import Inferencer, Loaded, Predicted
from mmbeit3.utils import InputError


@dataclass
class Detections(Predicted):
    """Instances in the form that :func:`mmbeit3.visualization.overlay.draw_instances` takes."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Memory of the two large arrays."""
        return self.image.nbytes + (0 if self.masks is None else self.masks.nbytes)


class Detector(Inferencer):
    """A detector with trained weights; arguments and errors as :class:`Inferencer`."""

    scope = "mmdet"

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes``; see :func:`checkpoint_classes`."""
        self.classes = checkpoint_classes(cfg, meta)

    def result(self, loaded: Loaded, sample: DetDataSample) -> Detections:
        """Move the instances of an image to the CPU."""
        found = sample.pred_instances.cpu().numpy()
        if len(found.labels):
            self.check_label(int(found.labels.max()))
        masks = found.masks if "masks" in found else None
        return Detections(
            loaded.source, loaded.image, found.bboxes, found.labels, found.scores, masks
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
