"""Objects that were found twice: which of them a picture may leave out."""

from __future__ import annotations

import numpy as np

#: Intersection over union from which on two objects are taken for one.
SAME_CLASS_IOU = 0.5
OTHER_CLASS_IOU = 0.7
MAX_SIDE = 1024  # pixels of a mask that are compared; of larger ones every second, third, ...


def find_duplicates(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, masks: np.ndarray | None = None
) -> np.ndarray:
    """Find objects that overlap a surer one so much that both are likely to be the same.

    They do from an IoU of 0.5 on, or 0.7 where the classes differ: of the masks if there are any,
    so that neighbors whose boxes overlap remain, else of the boxes.

    Args:
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2 in pixels.
        labels (np.ndarray): (N,), indices of classes.
        scores (np.ndarray): (N,); of equal ones the first is the surer.
        masks (np.ndarray, optional): (N, H, W), bool. Defaults to None.

    Returns:
        np.ndarray: (N,), bool.
    """
    duplicate = np.zeros(len(labels), bool)
    if masks is not None:
        step = max(1, max(masks.shape[1:]) // MAX_SIDE)
    order = np.argsort(-scores, kind="stable")
    for place, index in enumerate(order):
        surer = order[:place]
        surer = surer[~duplicate[surer]]
        least = np.where(labels[surer] == labels[index], SAME_CLASS_IOU, OTHER_CLASS_IOU)
        if masks is None:
            duplicate[index] = (_box_ious(boxes[index], boxes[surer]) >= least).any()
        else:
            near = _common(boxes[index], boxes[surer]) > 0
            pairs = zip(surer[near], least[near], strict=True)
            duplicate[index] = any(
                _mask_iou(masks[index], masks[other], step) >= enough for other, enough in pairs
            )
    return duplicate


def _common(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas, (N,), that a box (4,) has in common with each of (N, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.maximum(sides, 0).prod(1)


def _box_ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    common = _common(box, others)
    area = np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(1) - common
    return common / np.maximum(area, 1e-9)


def _mask_iou(one: np.ndarray, other: np.ndarray, step: int) -> float:
    one, other = one[::step, ::step], other[::step, ::step]
    return float((one & other).sum()) / max(1, int((one | other).sum()))
