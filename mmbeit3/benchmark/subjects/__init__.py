"""The pieces of work that are measured; a module is imported when its work is asked for."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line lists the subjects, and must not wait for torch
    from mmbeit3.benchmark.contest import Subject
    from mmbeit3.benchmark.options import Options

#: Name on the command line -> (module here, what is measured). The subject is the module's function
#: of that name.
SUBJECTS = {
    "tower": ("tower", "the vision tower, beside torchscale's and timm's"),
    "tower-sizes": ("tower", "the tower from 512 to 1792 pixels"),
    "tower-batches": ("tower", "the tower at batches of 1 to 8 images"),
    "detector": ("detector", "Cascade Mask R-CNN on COCO images, beside mmdet's own pieces"),
    "segmentor": ("segmentor", "Mask2Former on an ADE20K image, beside mmseg's sliding window"),
    "folder": ("folder", "a folder of images through the detector, beside the model alone"),
    "evaluation": ("evaluation", "COCO evaluation, beside pycocotools"),
    "loading": ("loading", "training images with large-scale jitter, beside mmdet's transforms"),
    "training": ("training", "a training step of the tower, with activation checkpointing too"),
    "deform-attn": ("deform_attn", "deformable attention, beside mmcv's function"),
    "soft-nms": ("soft_nms", "Soft-NMS, beside the same to its end"),
    "soft-nms-boxes": ("soft_nms", "Soft-NMS from 1,000 to 100,000 boxes"),
}


def make_subject(name: str, options: Options) -> Subject:
    """Set up one of :data:`SUBJECTS`, in bfloat16 too where the device has it."""
    from mmbeit3.utils.processor import bfloat16_obstacle

    module = import_module(f"{__name__}.{SUBJECTS[name][0]}")
    subject = getattr(module, name.replace("-", "_"))(options)
    lacks_bfloat16 = options.device == "cpu" and bfloat16_obstacle() is not None
    return _without_bfloat16(subject) if lacks_bfloat16 else subject


def _without_bfloat16(subject: Subject) -> Subject:
    contestants = tuple(c for c in subject.contestants if c.arguments.get("dtype") != "bfloat16")
    names = {contestant.name for contestant in contestants}
    comparisons = tuple(c for c in subject.comparisons if {c.ours, c.peer} <= names)
    return replace(subject, contestants=contestants, comparisons=comparisons)
