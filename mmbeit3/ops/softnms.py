"""Soft-NMS over all classes at once, stopped as soon as the wanted boxes are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmbeit3.utils import InputError

METHODS = ("naive", "linear", "gaussian")  # in the order in which mmcv numbers them

# Asking whether any box is left makes a GPU wait, so it is asked only once in so many steps.
_STEPS_BETWEEN_CHECKS = 16


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    max_per_img: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep boxes greedily, lowering the scores of those of the same class that overlap them.

    Soft-NMS as defined in `arXiv 1704.04503 <https://arxiv.org/abs/1704.04503>`_, one class at a
    time. Since scores only fall, the boxes are found in descending order of their final score
    over all classes, and the search ends once ``max_per_img`` of them are known.

    Boxes of equal score are taken in the order of their labels, then of the input. A box with a
    NaN score or a coordinate that is not finite is never kept and lowers no other score. Half
    precision is computed in float32, float64 in float64.

    Args:
        boxes (Tensor): (N, 4) as (x1, y1, x2, y2), floating point.
        scores (Tensor): (N,), floating point.
        labels (Tensor): (N,), integer.
        iou_threshold (float): Overlap from which 'linear' lowers and 'naive' removes a box;
            'gaussian' does not use it. Defaults to 0.3.
        sigma (float): Width of the 'gaussian' decay. Defaults to 0.5.
        min_score (float): A box whose score is or falls below this, or to 0, is dropped.
            Defaults to 1e-3.
        method (str): Factor on the score of a box that overlaps a kept one by ``iou``: 'linear'
            ``1 - iou``, 'gaussian' ``exp(-iou ** 2 / sigma)``, 'naive' 0 (plain NMS).
            Defaults to 'linear'.
        max_per_img (int): Number of boxes to keep over all classes; all if not positive.
            Defaults to -1.

    Returns:
        tuple[Tensor, Tensor, Tensor]: ``dets`` (K, 5), the boxes with their final scores in the
        input's type; ``labels`` (K,); ``keep`` (K,), their indices in the input.

    Raises:
        InputError: Shapes or types do not fit, or an option is out of its range.
    """
    _check_tensors(boxes, scores, labels)
    _check_options(sigma, min_score, method)
    out_dtype = torch.promote_types(boxes.dtype, scores.dtype)
    dtype = torch.promote_types(out_dtype, torch.float32)
    min_score = max(min_score, torch.finfo(dtype).tiny)
    corners, values = boxes.to(dtype), scores.to(dtype)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    # A coordinate that is not finite makes an area that is not.
    alive = ((values >= min_score) & area.isfinite()).nonzero().squeeze(1)
    limit = min(max_per_img, len(alive)) if max_per_img > 0 else len(alive)
    if limit == 0:
        return boxes.new_empty((0, 5), dtype=out_dtype), labels[:0], alive[:0]

    table = _tabulate(corners[alive], area[alive], values[alive], labels[alive])
    picked, finals = _pick(table, limit, min_score, _decay(method, iou_threshold, sigma))
    keep = alive[picked]
    dets = torch.cat((boxes[keep].to(out_dtype), finals.to(out_dtype)[:, None]), dim=1)
    return dets, labels[keep], keep


class _Table(NamedTuple):
    """Boxes laid out by class, so that a step of the search touches one row only.

    Row r holds the boxes of the r-th smallest label in their input order, padded to M columns.
    """

    geometry: Tensor  # (5, C, M): -x1, -y1, x2, y2, area
    values: Tensor  # (C, M): current scores, 0 where no box is left
    origin: Tensor  # (C, M): index of the box before it was laid out


def _tabulate(boxes: Tensor, area: Tensor, scores: Tensor, labels: Tensor) -> _Table:
    """Lay boxes (N, 4), their area, scores and labels (N,) out by class; N > 0."""
    labels, order = labels.sort(stable=True)
    _, row, counts = labels.unique_consecutive(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    shape = len(counts), int(counts.max())
    slot = row * shape[1] + torch.arange(len(labels), device=labels.device) - first[row]
    # With x1 and y1 negated, one minimum gives all four edges of an overlap. The tiny area keeps
    # two boxes without area from overlapping by 0 / 0.
    rows = torch.stack((-boxes[:, 0], -boxes[:, 1], boxes[:, 2], boxes[:, 3], area))
    geometry = boxes.new_zeros((5, *shape))
    geometry.view(5, -1)[:, slot] = rows[:, order]
    geometry[4].clamp_(min=torch.finfo(area.dtype).tiny)
    values = scores.new_zeros(shape)
    values.view(-1)[slot] = scores[order]
    origin = order.new_zeros(shape)
    origin.view(-1)[slot] = order
    return _Table(geometry, values, origin)


def _pick(
    table: _Table, limit: int, min_score: float, decay: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Run the greedy search: up to ``limit`` boxes as indices and final scores, best first."""
    geometry, values, origin = table
    best = values.amax(dim=1)
    rows, columns, finals = [], [], []
    for step in range(limit):
        if step % _STEPS_BETWEEN_CHECKS == 0 and not (best >= min_score).any():
            break
        # argmax() and max() return the first of equal values: the tie rule rests on that.
        row = best.argmax(dim=0, keepdim=True)
        scores = values.index_select(0, row)
        final, column = scores.max(dim=1)
        rows.append(row)
        columns.append(column)
        finals.append(final)

        boxes = geometry.index_select(1, row)
        scores.mul_(decay(_iou(boxes.index_select(2, column), boxes)))
        scores.index_fill_(1, column, 0)
        values.index_copy_(0, row, scores)
        best.index_copy_(0, row, scores.amax(dim=1))

    final = torch.cat(finals)
    found = final >= min_score
    return origin[torch.cat(rows), torch.cat(columns)][found], final[found]


def _iou(box: Tensor, others: Tensor) -> Tensor:
    """Overlap of one box (5, 1, 1) with others (5, 1, M), as laid out in ``_Table``: (1, M)."""
    edges = torch.minimum(others, box)
    width, height = (edges[:2] + edges[2:4]).clamp_(min=0)
    intersection = width.mul_(height)
    union = (others[4] + box[4]).sub_(intersection)
    return intersection.div_(union)


def _decay(method: str, iou_threshold: float, sigma: float) -> Callable[[Tensor], Tensor]:
    """The factor on a score as a function of the overlap, which it may overwrite."""
    if method == "linear":
        return lambda iou: 1 - iou.masked_fill_(iou < iou_threshold, 0)
    if method == "gaussian":
        return lambda iou: iou.square_().div_(-sigma).exp_()
    return lambda iou: iou < iou_threshold


def _check_tensors(boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
    shapes = tuple(boxes.shape), tuple(scores.shape), tuple(labels.shape)
    number = len(boxes) if boxes.ndim else 0
    if shapes != ((number, 4), (number,), (number,)):
        raise InputError(
            f"soft_nms got boxes, scores, labels of shapes {shapes[0]}, {shapes[1]}, {shapes[2]}; "
            "expected (N, 4), (N,), (N,)."
        )
    if not (boxes.is_floating_point() and scores.is_floating_point()):
        raise InputError(
            f"soft_nms got boxes of type {boxes.dtype} and scores of type {scores.dtype}; "
            "expected floating point: convert them with .float()."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"soft_nms got labels of type {labels.dtype}; "
            "expected integers: convert them with .long()."
        )


def _check_options(sigma: float, min_score: float, method: str) -> None:
    if method not in METHODS:
        raise InputError(f"soft_nms got method {method!r}; expected one of {', '.join(METHODS)}.")
    if not min_score >= 0:
        raise InputError(f"soft_nms got min_score {min_score}; expected a number >= 0.")
    if method == "gaussian" and not sigma > 0:
        raise InputError(f"soft_nms got sigma {sigma}; expected a number > 0.")
