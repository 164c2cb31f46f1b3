"""The pieces of work that are measured; a module is imported when its work is asked for."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line lists the cases, and must not wait for torch
    from benchmarks.benchmark import Case
    from benchmarks.options import Options

#: Name on the command line -> (module here, what is measured). The case is the module's function
#: of that name.
CASES = {
    "matrices": ("matrices", "large matrix products and copies: what a device can do at most"),
    "tower": ("tower", "the vision tower, next to torchscale's and timm's"),
    "tower-sizes": ("tower", "the tower from 512 to 1792 pixels"),
    "tower-batches": ("tower", "the tower at batches of 1 to 8 images"),
    "int8": ("int8", "tower and detector in 8-bit integers, bfloat16 and float32"),
    "export": ("export", "the tower by onnxruntime and OpenVINO, next to PyTorch"),
    "text": ("text", "captions through the language expert, next to torchscale's"),
    "caption": ("caption", "images to captions by beam search, next to the published way"),
    "detector": ("detector", "Cascade Mask R-CNN on COCO images, next to mmdet's own pieces"),
    "segmentor": ("segmentor", "Mask2Former on an ADE20K image, next to mmseg's sliding window"),
    "folder": ("folder", "a folder of images through the detector, next to the model alone"),
    "evaluation": ("evaluation", "COCO evaluation, next to pycocotools"),
    "evaluation-many": ("evaluation", "500,000 masks evaluated, next to two other programs"),
    "report": ("report", "the page on detections, for 5,000 images"),
    "loading": ("loading", "training images with large-scale jitter, next to mmdet's transforms"),
    "training": ("training", "a training step of the tower, with activation checkpointing too"),
    "small-step": ("small_step", "a training step of the demo's detector, by parts"),
    "pretraining": ("pretraining", "a step of masked data modeling, next to the plain way"),
    "deform-attn": ("deform_attn", "deformable attention, next to mmcv's function"),
    "soft-nms": ("soft_nms", "Soft-NMS, next to the same to its end"),
    "soft-nms-boxes": ("soft_nms", "Soft-NMS from 1,000 to 100,000 boxes"),
}


def make_case(name: str, options: Options) -> Case:
    """Set up one of :data:`CASES`, in bfloat16 and int8 too where the device has them."""
    from benchmarks.benchmark import without
    from mmbeit3.ops.cpu.processor import bfloat16_obstacle, int8_obstacle

    module = import_module(f"{__name__}.{CASES[name][0]}")
    case = getattr(module, name.replace("-", "_"))(options)
    on_cpu = options.device == "cpu"
    obstacles = {
        "bfloat16": bfloat16_obstacle() if on_cpu else None,
        "int8": int8_obstacle() if on_cpu else "a GPU",
    }
    missing = {dtype for dtype, obstacle in obstacles.items() if obstacle is not None}
    case = without(case, {c.name for c in case.candidates if c.arguments.get("dtype") in missing})
    return case if on_cpu else without_targets(case)


def without_targets(case: Case) -> Case:
    """A case whose times and memory are shown only: targets are those of a CPU."""
    candidates = (replace(c, seconds_at_most=None, memory_at_most=None) for c in case.candidates)
    compared = (replace(c, speed=None, memory=None) for c in case.comparisons)
    return replace(case, candidates=tuple(candidates), comparisons=tuple(compared), share={})
