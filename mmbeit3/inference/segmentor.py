"""A trained segmentor that takes image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample

from mmbeit3.inference.inferencer import Inferencer, Loaded, Predicted
from mmbeit3.inference.seg_classes import SegClasses, find_seg_classes


@dataclass
class ClassMap(Predicted):
    """The index of a class for every pixel of the image: ``labels`` (H, W), uint8."""

    labels: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory of the two arrays."""
        return self.image.nbytes + self.labels.nbytes


class Segmentor(Inferencer):
    """A segmentor with trained weights; arguments and errors as :class:`Inferencer`.

    Whether an image goes through the model whole or by a sliding window is the model's own
    ``test_cfg``.
    """

    scope = "mmseg"
    meanings: SegClasses

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` and ``meanings``; see :func:`find_seg_classes`."""
        self.meanings = find_seg_classes(cfg, meta)
        self.classes = self.meanings.names

    def result(self, loaded: Loaded, sample: SegDataSample) -> ClassMap:
        """Move the class map of an image to the CPU."""
        labels = sample.pred_sem_seg.data.squeeze(0)  # (H, W), as large as the image
        self.check_label(int(labels.max()))
        return ClassMap(loaded.source, loaded.image, labels.to(torch.uint8).cpu().numpy())
