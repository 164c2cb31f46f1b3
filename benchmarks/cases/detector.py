"""The whole detector on photographs: images a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.data import batch_of, model_config, require
from benchmarks.options import Options
from benchmarks.plain_models import make_plain_detector, plain_detector_cfg
from mmbeit3.models.acceleration import accelerate
from mmbeit3.registry import MODELS
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.image_reading import read_image

SQUARE = "plain: naive attention, square padding, one at a time"
PLAIN = "plain: naive attention, one at a time"
OURS = "mmbeit3, float32"
BFLOAT16 = "mmbeit3, bfloat16"


def detector(options: Options) -> Case:
    """Cascade Mask R-CNN of ``options.arch`` on images of COCO val2017."""
    base = dict(
        arch=options.arch,
        folder=require(options.coco / "val2017", "--coco"),
        num_images=options.num_images,
        device=options.device,
    )
    kinds = {SQUARE: dict(square=1024), PLAIN: dict(plain=True), OURS: {}}
    kinds |= {BFLOAT16: dict(dtype="bfloat16")}
    return Case(
        "detector",
        f"{options.arch} Cascade Mask R-CNN at 1024, {options.num_images} images of COCO val2017, "
        "random weights that find 100 objects in each",
        tuple(
            Candidate(name, build, base | kind, items=options.num_images)
            for name, kind in kinds.items()
        ),
        (
            Comparison(OURS, SQUARE, speed=2),
            Comparison(OURS, PLAIN, tolerance=1e-3),
            Comparison(BFLOAT16, SQUARE),
            Comparison(BFLOAT16, OURS),
        ),
    )


def build(
    arch: str,
    folder: Path,
    num_images: int,
    device: str,
    square: int | None = None,
    plain: bool = False,
    dtype: str = "float32",
) -> Callable[[], list[Tensor]]:
    """Make a call that detects in images already loaded; it returns the scores of each image.

    Args:
        arch (str): Size of the tower.
        folder (Path): Folder of images, of which the first are taken.
        num_images (int): How many.
        device (str): Where it runs.
        square (int, optional): Pad images to squares of this side; implies ``plain``.
        plain (bool): mmdet's own pieces and naive attention. Defaults to False.
        dtype (str): Type to compute in. Defaults to 'float32'.
    """
    cfg = model_config(f"beit3_vitdet/cascade-mask-rcnn_beit3-{arch}_lsj-1024_coco.py")
    init_default_scope("mmdet")
    plain = plain or square is not None
    if plain:
        plain_detector_cfg(cfg.model, square)
    batches = [batch_of(cfg, read_image(path)) for path in find_images(folder)[:num_images]]
    torch.manual_seed(0)
    model = widen_scores(MODELS.build(cfg.model)).to(device).eval()
    if plain:
        make_plain_detector(model)
    else:
        accelerate(model, dtype)

    @torch.no_grad()
    def call() -> list[Tensor]:
        found = [model.test_step(batch)[0].pred_instances for batch in batches]
        return [instances.scores for instances in found]

    return call


def widen_scores(model: nn.Module) -> nn.Module:
    """Draw the classifiers of a fresh detector so that some classes get high scores."""
    for head in model.roi_head.bbox_head:
        nn.init.normal_(head.fc_cls.weight, std=0.3)
    return model
