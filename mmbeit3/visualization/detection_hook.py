"""Pictures of a detector's test: ground truth left, prediction right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmbeit3.datasets.palette import make_palette
from mmbeit3.visualization.drawing_hook import DrawingHook
from mmbeit3.visualization.overlay import draw_instances


class DetectionDrawingHook(DrawingHook):
    """Draw the objects of every tested image.

    Args:
        score_thr (float): Draw detections of at least this score.
        **options (Any): Those of :class:`mmbeit3.visualization.drawing_hook.DrawingHook`.
    """

    def __init__(self, score_thr: float, **options: Any) -> None:
        super().__init__(**options)
        self._score_thr = score_thr

    def draw(self, runner: Runner, image: np.ndarray, sample: DetDataSample) -> np.ndarray:
        """Draw one image."""
        classes = runner.test_dataloader.dataset.metainfo["classes"]
        found = sample.pred_instances
        shown = [found[found.scores >= self._score_thr]]
        if "gt_instances" in sample:
            shown.insert(0, sample.gt_instances)
        palette = [color[::-1] for color in make_palette(len(classes))]
        return cv2.hconcat([_draw_instances(image, part, classes, palette) for part in shown])


def _draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
) -> np.ndarray:
    instances = instances.cpu()
    boxes = getattr(instances.bboxes, "tensor", instances.bboxes)  # of mmdet's box types, too
    scores = instances.scores.float().numpy() if "scores" in instances else None
    masks = instances.get("masks")
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else masks.numpy()
        masks = masks.astype(bool)
    labels = instances.labels.numpy()
    return draw_instances(image, boxes.float().numpy(), labels, scores, masks, classes, palette)
