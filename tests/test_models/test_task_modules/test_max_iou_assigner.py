"""Anchors and objects: labels and targets held to a definition written out pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmengine.structures import InstanceData
from torch import Tensor

from mmbeit3.models.task_modules.assigners import MaxIoUAssigner, max_iou_assigner

POSITIVE, NEGATIVE = 0.7, 0.3


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.float32, np.float32]:
    """Intersection of two boxes, and their union, in float32."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), np.float32(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), np.float32(0))
    inside = width * height
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inside, area_a + area_b - inside


def iou(a: np.ndarray, b: np.ndarray) -> float:
    inside, union = overlap(a, b)
    return inside / union if inside > 0 else np.float32(0)


def definition(
    anchors: Tensor, objects: Tensor, regions: Tensor | None = None, part: float = 2.0
) -> tuple[list[int], list[int]]:
    """Label (1 positive, 0 negative, -1 ignored) and object of each anchor.

    detectron2's ``Matcher`` with low-quality matches: thresholds on an anchor's largest IoU, then
    every anchor whose IoU with an object is that object's largest becomes positive. Its object is
    always that of its own largest IoU, the first of equals.
    """
    boxes, goals = anchors.numpy(), objects.numpy()
    ignored = set()
    for index, box in enumerate(boxes):
        for region in [] if regions is None else regions.numpy():
            inside, _ = overlap(box, region)
            if inside / ((box[2] - box[0]) * (box[3] - box[1])) > part:
                ignored.add(index)
    table = [[iou(goal, box) for goal in goals] for box in boxes]
    labels, owners = [], []
    for row in table:
        best = max(row)
        labels.append(1 if best >= POSITIVE else 0 if best < NEGATIVE else -1)
        owners.append(row.index(best))
    for goal in range(len(goals)):
        column = [row[goal] for index, row in enumerate(table) if index not in ignored]
        best = max(column, default=0)
        for index, row in enumerate(table):
            if best > 0 and row[goal] == best and index not in ignored:
                labels[index] = 1
    return [-1 if index in ignored else label for index, label in enumerate(labels)], owners


def assigned(
    anchors: Tensor, objects: Tensor, regions: Tensor | None = None, **options: float
) -> tuple[list[int], list[int], Tensor]:
    """What the assigner says, as the definition does, and labels of objects named 10, 11, ..."""
    names = torch.arange(len(objects)) + 10
    ignore = None if regions is None else InstanceData(bboxes=regions)
    result = MaxIoUAssigner(POSITIVE, NEGATIVE, **options).assign(
        InstanceData(priors=anchors), InstanceData(bboxes=objects, labels=names), ignore
    )
    labels = result.gt_inds.clamp(max=1).tolist()
    return labels, (result.gt_inds - 1).tolist(), result.labels


def check(anchors: Tensor, objects: Tensor, regions: Tensor | None = None, part: float = -1) -> int:
    """Compare with the definition; returns how many anchors are positive by a poor match."""
    found = assigned(anchors, objects, regions, ignore_iof_thr=part)
    labels, owners = definition(anchors, objects, regions, part if part > 0 else 2.0)
    assert found[0] == labels
    for index, label in enumerate(labels):
        assert found[2][index] == (owners[index] + 10 if label == 1 else -1)
        if label == 1:
            assert found[1][index] == owners[index]
    return sum(label == 1 for label in labels)


def grid(side: int, strides: tuple[int, ...] = (8, 16)) -> Tensor:
    generator = AnchorGenerator(scales=[4], ratios=[0.5, 1.0, 2.0], strides=list(strides))
    sizes = [(side // stride, side // stride) for stride in strides]
    return torch.cat(generator.grid_priors(sizes, device="cpu"))


def crowd(count: int, side: int, whole: bool) -> Tensor:
    """Objects close together, of 3 to 40 pixels; at whole pixels many overlaps are equal."""
    places = torch.rand(count, 2) * side * 0.6
    sizes = torch.rand(count, 2) * 37 + 3
    boxes = torch.cat([places, places + sizes], 1)
    return boxes.round() if whole else boxes


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("count", "side"), [(1, 48), (7, 96), (60, 64), (25, 80)])
@pytest.mark.parametrize("pairs", [1, 4000, 2**20])
def test_labels_and_objects_are_those_of_the_definition(
    count: int, side: int, whole: bool, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(max_iou_assigner, "PAIRS_ON_CPU", pairs)  # some objects at a time, or all
    torch.manual_seed(count)
    objects = crowd(count, side, whole)
    objects = torch.cat([objects, objects[: count // 3]])  # some twice
    assert check(grid(side), objects) > 0


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_anchors_in_ignored_regions_are_ignored(part: float) -> None:
    torch.manual_seed(1)
    regions = torch.tensor([[0.0, 0, 30, 70], [20, 40, 64, 64]])
    anchors, objects = grid(64), crowd(12, 64, whole=True)
    check(anchors, objects, regions, part)
    labels, _, _ = assigned(anchors, objects, regions, ignore_iof_thr=part)
    open_labels, _, _ = assigned(anchors, objects, regions)
    assert labels.count(-1) > open_labels.count(-1)  # by default no region is ignored


def test_an_anchor_keeps_the_object_that_it_fits_best() -> None:
    """The best anchor of the second object fits the first one better."""
    anchors = torch.tensor([[0.0, 0, 32, 32], [100, 100, 132, 132]])
    objects = torch.tensor([[0.0, 0, 32, 30], [10, 10, 40, 44]])
    labels, owners, _ = assigned(anchors, objects)
    assert (labels, owners[0]) == ([1, 0], 0)


@pytest.mark.parametrize("side", [1, 3, 8, 15])
def test_every_object_has_a_positive_anchor_however_small(side: int) -> None:
    anchors = grid(64)
    for place in (0, 5, 31, 60 - side):
        box = torch.tensor([[float(place), place, place + side, place + side]])
        labels, _, _ = assigned(anchors, box)
        assert 1 in labels


def test_an_object_that_no_anchor_touches_makes_none_positive() -> None:
    far, empty = [500.0, 500, 520, 520], [10.0, 10, 10, 30]
    labels, _, _ = assigned(grid(64), torch.tensor([far, empty]))
    assert set(labels) == {0}


def test_without_objects_all_are_negative() -> None:
    labels, _, names = assigned(grid(32), torch.zeros(0, 4))
    assert set(labels) == {0} and (names == -1).all()


def test_without_anchors() -> None:
    labels, _, names = assigned(torch.zeros(0, 4), crowd(3, 64, whole=True))
    assert labels == [] and names.shape == (0,)


def test_overlaps_are_those_with_the_object_of_the_anchor() -> None:
    torch.manual_seed(2)
    anchors, objects = grid(64), crowd(9, 64, whole=False)
    result = MaxIoUAssigner(POSITIVE, NEGATIVE).assign(
        InstanceData(priors=anchors), InstanceData(bboxes=objects, labels=torch.zeros(9).long())
    )
    best = [max(iou(a, b) for b in objects.numpy()) for a in anchors.numpy()]
    torch.testing.assert_close(result.max_overlaps, torch.tensor(np.array(best)))
    assert result.num_gts == 9


def test_crowds_of_a_full_image_take_little_memory() -> None:
    """300 objects and 261,888 anchors: 79 million pairs, of which a million are there at once."""
    torch.manual_seed(3)
    anchors = grid(1024, (4, 8, 16, 32, 64))
    assert len(anchors) == 261_888
    objects = crowd(300, 1024, whole=False)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Sizes():
        labels, _, _ = assigned(anchors, objects)
    assert labels.count(1) >= 250
    assert largest <= 2**20
