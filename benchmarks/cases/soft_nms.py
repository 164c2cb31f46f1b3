"""Soft-NMS: ours, which stops early, next to the same algorithm run to its end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.options import Options
from benchmarks.plain import plain_soft_nms
from mmbeit3.ops import soft_nms as run_ours

NUM_CLASSES = 80
KEEP = 100
IOU_THRESHOLD = 0.5
MIN_SCORE = 0.05


def soft_nms(options: Options) -> Case:
    """20,000 boxes in 80 classes, of which 100 are kept."""
    names = "mmbeit3", "the same, to its end"
    return Case(
        "soft-nms",
        f"Soft-NMS (linear), 20,000 boxes, {NUM_CLASSES} classes, keep {KEEP}",
        tuple(
            Candidate(
                name,
                build,
                dict(number=20_000, device=options.device, early=early),
                memory=False,
            )
            for name, early in zip(names, (True, False), strict=True)
        ),
        (Comparison(*names, speed=20, tolerance=0),),
    )


def soft_nms_boxes(options: Options) -> Case:
    """From 1,000 to 100,000 boxes."""
    numbers = (1_000, 3_000, 10_000, 30_000, 100_000)
    return Case(
        "soft-nms-boxes",
        f"Soft-NMS (linear), {NUM_CLASSES} classes, keep {KEEP}",
        tuple(
            Candidate(
                f"{name}, {number:,} boxes",
                build,
                dict(number=number, device=options.device, early=early),
                series=name,
                x=number,
            )
            for number in numbers
            for name, early in (("mmbeit3", True), ("the same, to its end", False))
            if early or number <= 30_000
        ),
        x_label="boxes",
    )


def build(number: int, device: str, early: bool) -> Callable[[], Tensor]:
    """Make a call that returns the indices (100,) of what is kept, best first."""
    boxes, scores, labels = (part.to(device) for part in crowd(number, NUM_CLASSES))
    if not early:
        return lambda: plain_soft_nms(boxes, scores, labels, IOU_THRESHOLD, MIN_SCORE)[:KEEP]
    return lambda: run_ours(
        boxes,
        scores,
        labels,
        iou_threshold=IOU_THRESHOLD,
        min_score=MIN_SCORE,
        max_per_img=KEEP,
    )[2]


def crowd(number: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a detector gives before NMS: in each class, clusters around 20 objects.

    Returns:
        tuple: Boxes (N, 4), scores (N,) and labels (N,); the same at every call.
    """
    generator = torch.Generator().manual_seed(10)
    objects = torch.rand(20, 4, generator=generator) * torch.tensor([1000, 1000, 300, 300])
    boxes = objects[torch.randint(20, (number,), generator=generator)]
    boxes = boxes + torch.randn(number, 4, generator=generator) * 5
    boxes = torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clamp(min=10)), dim=1)
    scores = torch.rand(number, generator=generator)
    return boxes, scores, torch.randint(classes, (number,), generator=generator)
