"""Pictures of a segmentor's test: ground truth left, prediction right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmbeit3.visualization.drawing_hook import DrawingHook
from mmbeit3.visualization.overlay import draw_class_map


class SegDrawingHook(DrawingHook):
    """Draw the label maps of every tested image.

    Pixels that do not count (label 255) stay as they are in the photo.

    Args:
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple[int, int, int]]): Their colors, BGR.
        **options (Any): Those of :class:`mmbeit3.visualization.drawing_hook.DrawingHook`.
    """

    def __init__(
        self, classes: Sequence[str], palette: Sequence[tuple[int, int, int]], **options: Any
    ) -> None:
        super().__init__(**options)
        self._classes = classes, palette

    def draw(self, runner: Runner, image: np.ndarray, sample: SegDataSample) -> np.ndarray:
        """Draw one image."""
        maps = [sample.get("gt_sem_seg"), sample.pred_sem_seg]
        labels = [_labels(found) for found in maps if found is not None]
        return cv2.hconcat([draw_class_map(image, each, *self._classes) for each in labels])


def _labels(found: PixelData) -> np.ndarray:
    """Class numbers (H, W), uint8, on the CPU."""
    return found.data.squeeze(0).to(torch.uint8).cpu().numpy()
