"""Training data: images that one worker prepares in a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.data import model_config, require
from benchmarks.options import Options
from mmbeit3.registry import DATASETS

CONFIG = "beit3_vitdet/cascade-mask-rcnn_beit3-base_lsj-1024_coco.py"
NUM_IMAGES = 60
# Our transforms and those of mmdet that they stand for; the others only change memory layout.
OF_MMDET = {
    "mmbeit3.PolygonRandomCrop": "RandomCrop",
    "mmbeit3.ContiguousImage": None,
    "mmbeit3.ChannelsFirst": None,
}
OURS = "mmbeit3: polygons"
MMDET = "mmdet: polygons"
BITMAPS = "mmdet: bitmaps (its default)"


def loading(options: Options) -> Case:
    """Large-scale jitter at 1024 on images of COCO train2017, in one process and one thread."""
    root = require(options.coco, "--coco")
    kinds = {OURS: "ours", MMDET: "mmdet", BITMAPS: "bitmaps"}
    return Case(
        "loading",
        f"large-scale jitter at 1024, {NUM_IMAGES} images of COCO train2017, one worker",
        tuple(
            Candidate(name, build, dict(root=root, kind=kind), items=NUM_IMAGES, memory=False)
            for name, kind in kinds.items()
        ),
        (Comparison(OURS, MMDET), Comparison(OURS, BITMAPS)),
    )


def build(root: Path, kind: str) -> Callable[[], None]:
    """Make a call that loads images, with the same flips, scales and crops at every call.

    Args:
        root (Path): COCO data.
        kind (str): 'ours', 'mmdet' for its own transforms, 'bitmaps' for these with masks of full
            size.
    """
    cfg = model_config(
        CONFIG, {"train_dataloader.dataset.data_root": f"{root}/"}
    ).train_dataloader.dataset
    if kind != "ours":
        cfg.pipeline = [_of_mmdet(step, kind == "bitmaps") for step in cfg.pipeline]
        cfg.pipeline = [step for step in cfg.pipeline if step]
    init_default_scope("mmdet")
    dataset = DATASETS.build(cfg)
    dataset.full_init()

    def call() -> None:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # as in the workers of mmengine's runner
        random.seed(0)
        np.random.seed(0)
        for index in range(NUM_IMAGES):
            dataset[index % len(dataset)]
        cv2.setNumThreads(threads)

    return call


def _of_mmdet(step: ConfigDict, bitmaps: bool) -> dict | None:
    name = OF_MMDET.get(step["type"], step["type"])
    step = {key: value for key, value in step.items() if key != "_scope_"} | {"type": name}
    if bitmaps and "poly2mask" in step:
        step["poly2mask"] = True
    return step if name else None
