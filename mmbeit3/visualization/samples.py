"""Pictures of data samples of mmdet and mmseg: ground truth left, prediction right."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mmbeit3.visualization.legend import add_legend
from mmbeit3.visualization.overlay import classes_found, draw_class_map, draw_instances
from mmbeit3.visualization.text_labels import Color

DEFAULT_SCORE_THR = 0.3


def draw_sample(
    image: np.ndarray,
    sample: BaseDataElement,
    classes: Sequence[str],
    palette: Sequence[Color],
    *,
    score_thr: float = DEFAULT_SCORE_THR,
    with_truth: bool = True,
    with_prediction: bool = True,
    hide_duplicates: bool = False,
    legend: bool = True,
) -> np.ndarray:
    """Draw what a sample has of objects or, without these, of class maps.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8.
        sample (BaseDataElement): ``gt_instances`` and ``pred_instances``, or ``gt_sem_seg`` and
            ``pred_sem_seg``, in pixels of the image; any may be absent.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR color of each class.
        score_thr (float): Draw detections of at least this score. Defaults to 0.3.
        with_truth (bool): Whether to draw the ground truth. Defaults to True.
        with_prediction (bool): Whether to draw the prediction. Defaults to True.
        hide_duplicates (bool): As of
            :func:`mmbeit3.visualization.overlay.draw_instances`. Defaults to False.
        legend (bool): As of :func:`mmbeit3.visualization.overlay.draw_class_map`; both maps share
            it. Defaults to True.

    Returns:
        np.ndarray: The pictures side by side, BGR, uint8; of a sample that has nothing the image.
    """
    sample = sample.cpu()
    wanted = ["gt"] * with_truth + ["pred"] * with_prediction
    objects = [sample.get(f"{part}_instances") for part in wanted]
    maps = [sample.get(f"{part}_sem_seg") for part in wanted]
    if any(part is not None for part in objects) or all(part is None for part in maps):
        shown = [part for part in objects if part is not None] or [InstanceData()]
        return cv2.hconcat(
            [
                _draw_objects(image, part, classes, palette, score_thr, hide_duplicates)
                for part in shown
            ]
        )
    labels = [_labels(part) for part in maps if part is not None]
    pictures = [draw_class_map(image, part, classes, palette, legend=False) for part in labels]
    found = classes_found(labels, len(palette)) if legend else []
    return add_legend(cv2.hconcat(pictures), found, classes, palette)


def _draw_objects(
    image: np.ndarray,
    objects: InstanceData,
    classes: Sequence[str],
    palette: Sequence[Color],
    score_thr: float,
    hide_duplicates: bool,
) -> np.ndarray:
    if "scores" in objects:
        objects = objects[objects.scores >= score_thr]
    number = len(objects)
    scores = objects.scores.float().numpy() if "scores" in objects else None
    masks = objects.get("masks") if number else None
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else np.asarray(masks)
        masks = masks.astype(bool)
    boxes = objects.get("bboxes", torch.zeros(number, 4))
    boxes = getattr(boxes, "tensor", boxes).float().numpy()  # of mmdet's box types, too
    labels = objects.labels.numpy() if number else np.zeros(0, int)
    return draw_instances(
        image,
        boxes.reshape(-1, 4),
        labels,
        scores,
        masks,
        classes,
        palette,
        hide_duplicates=hide_duplicates,
    )


def _labels(found: PixelData) -> np.ndarray:
    """Class numbers (H, W), uint8."""
    return found.data.squeeze(0).to(torch.uint8).numpy()
