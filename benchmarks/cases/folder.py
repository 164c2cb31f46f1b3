"""A folder of images from file to file, next to the model alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.cases.detector import widen_scores
from benchmarks.data import model_config, require
from benchmarks.options import Options
from mmbeit3.inference.detection_writer import DetectionWriter
from mmbeit3.inference.detector import Detector
from mmbeit3.inference.folder import Report, process
from mmbeit3.inference.image_list import list_sources
from mmbeit3.registry import MODELS

CONFIG = "beit3_vitdet/cascade-mask-rcnn_beit3-{arch}_lsj-1024_coco.py"
FOLDER = "folder: read, detect, draw, write"
ALONE = "the model alone"
NUM_WORKERS = 2


def folder(options: Options) -> Case:
    """The detector at 1024 on images of COCO val2017, 100 objects with masks in each."""
    images = require(options.coco / "val2017", "--coco")
    arguments = dict(
        arch=options.arch, images=images, num_images=options.num_images, device=options.device
    )
    return Case(
        "folder",
        f"{options.arch} detector over {options.num_images} images, with results and pictures",
        tuple(
            Candidate(
                name, build, arguments | dict(alone=alone), items=options.num_images, memory=False
            )
            for name, alone in ((ALONE, True), (FOLDER, False))
        ),
        (Comparison(FOLDER, ALONE, speed=0.9),),
    )


def build(arch: str, images: Path, num_images: int, device: str, alone: bool) -> Callable[[], None]:
    """Make a call that runs the model on loaded images, or all that ``tools/infer.py`` does."""
    cfg = model_config(CONFIG.format(arch=arch))
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = widen_scores(MODELS.build(cfg.model))
    kept = tempfile.TemporaryDirectory(prefix="mmbeit3-benchmark-")
    out = Path(kept.name)
    names = [f"class {index}" for index in range(model.roi_head.bbox_head[0].num_classes)]
    meta = {"dataset_meta": {"classes": names}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, out / "weights.pth")
    del model
    detector = Detector(cfg, out / "weights.pth", device)
    sources = list_sources(images, out, overlays=True, labels=False)[:num_images]
    loaded = [detector.load(source) for source in sources]

    def call() -> None:
        if alone:
            for _ in detector.predict(loaded, batch_size=1):
                pass
            return
        results = DetectionWriter(Path(kept.name), detector.classes, None)
        with results.opened():
            report = Report(results, len(sources))
            for outcome in process(sources, detector, report, 1, NUM_WORKERS):
                report.add(outcome)

    return call
