"""A trained segmentor that takes images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample

from mmbeit3.inference.browser_pages import show_class_map
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.inference.seg_classes import SegClasses, find_seg_classes, seg_classes
from mmbeit3.inference.segmentation_result import SegmentationResult
from mmbeit3.inference.tiled_class_map import ClassMapJoiner
from mmbeit3.utils.large_images import Georeference


class Segmentor(Inferencer):
    """A segmentor with trained weights; arguments and errors as :class:`Inferencer`.

    Whether an image goes through the model whole or by a sliding window is the model's own
    ``test_cfg``.
    """

    scope = "mmseg"
    show_page = staticmethod(show_class_map)
    meanings: SegClasses

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes``, ``palette`` and ``meanings``; see :func:`find_seg_classes`."""
        self.meanings = find_seg_classes(cfg, meta)
        self.classes, self.palette = self.meanings.names, self.meanings.palette

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Set ``classes``, ``palette`` and ``meanings``; the colors are made up."""
        self.meanings = seg_classes(names)
        self.classes, self.palette = self.meanings.names, self.meanings.palette

    def shape(self, image: Loaded) -> tuple[Any, ...]:
        """What images of a batch have in common: their size as read, and as prepared."""
        return image.image.shape, *super().shape(image)

    def joiner(
        self, source: Source, size: tuple[int, int], georeference: Georeference | None
    ) -> ClassMapJoiner:
        """Make what joins the class maps of an image's tiles."""
        return ClassMapJoiner(source, size, georeference, self.classes, self.palette)

    def result(self, loaded: Loaded, sample: SegDataSample) -> SegmentationResult:
        """Move the class map of an image to the CPU."""
        labels = sample.pred_sem_seg.data.squeeze(0)  # (H, W), as large as the image
        self.check_label(int(labels.max()))
        label_map = labels.to(torch.uint8).cpu().numpy()
        return SegmentationResult(
            loaded.source, loaded.image, label_map, self.classes, self.palette
        )
