"""A trained detector that takes images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.classes import follow_checkpoint, resolve_classes
from mmbeit3.config.dataset_meta import find_palette
from mmbeit3.datasets.palette import make_palette, palette_or_made
from mmbeit3.inference.browser_pages import show_detections
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.inferencer import Inferencer, Loaded
from mmbeit3.inference.tiled_detections import DetectionJoiner
from mmbeit3.utils import InputError
from mmbeit3.utils.large_images import Georeference
from mmbeit3.visualization.text_labels import Color


class Detector(Inferencer):
    """A detector with trained weights; arguments and errors as :class:`Inferencer`."""

    scope = "mmdet"
    show_page = staticmethod(show_detections)

    def find_classes(self, cfg: Config, meta: Mapping[str, Any]) -> None:
        """Set ``classes`` and ``palette``; see :func:`find_det_classes`."""
        self.classes, self.palette = find_det_classes(cfg, meta)

    def name_classes(self, names: tuple[str, ...]) -> None:
        """Set ``classes`` and ``palette``."""
        self.classes = names
        self.palette = [color[::-1] for color in make_palette(len(names))]

    def shape(self, image: Loaded) -> tuple[Any, ...]:
        """What images of a batch have in common: their size as read, and as prepared."""
        return image.image.shape, *super().shape(image)

    def joiner(
        self, source: Source, size: tuple[int, int], georeference: Georeference | None
    ) -> DetectionJoiner:
        """Make what joins the objects of an image's tiles."""
        return DetectionJoiner(source, size, georeference, self.classes, self.palette)

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


def find_det_classes(cfg: Config, meta: Any) -> tuple[tuple[str, ...], list[Color]]:
    """Find names and colors of a detector's classes, and fit the model's heads to their number.

    The checkpoint knows what it was trained on; a file of weights alone does not, then the
    config's data set does. Where no colors are named, or others than one for each class, they are
    made up.

    Args:
        cfg (Config): The config; changed where its data sets are of this project's types.
        meta (Any): The checkpoint's ``meta``.

    Returns:
        tuple: Names, and BGR colors.

    Raises:
        InputError: Neither names any.
    """
    classes = checkpoint_classes(cfg, meta)
    palette = palette_or_made(find_palette(cfg, meta, classes), len(classes))
    return classes, [color[::-1] for color in palette]


def checkpoint_classes(cfg: Config, meta: Any) -> tuple[str, ...]:
    """Find the names alone; see :func:`find_det_classes`."""
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
