"""The whole segmentor on a photograph, by a sliding window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import Tensor

from mmbeit3.apis.acceleration import accelerate
from mmbeit3.apis.images import find_images, read_image
from mmbeit3.apis.predictor import preparation
from mmbeit3.benchmark.contest import Comparison, Contestant, Subject
from mmbeit3.benchmark.data import model_config, require
from mmbeit3.benchmark.options import Options
from mmbeit3.benchmark.plain_models import make_plain_segmentor
from mmbeit3.registry import MODELS

PLAIN = "plain: mmseg's sliding window, naive attention"
OURS = "mmbeit3, float32"
BFLOAT16 = "mmbeit3, bfloat16"


def segmentor(options: Options) -> Subject:
    """Mask2Former with 150 classes on an image of ADE20K, at a crop of 512."""
    folder = require(options.ade20k / "images" / "validation", "--ade20k")
    base = dict(arch=options.arch, folder=folder, device=options.device)
    kinds = {PLAIN: dict(plain=True), OURS: {}, BFLOAT16: dict(dtype="bfloat16")}
    return Subject(
        "segmentor",
        f"{options.arch} Mask2Former, 150 classes, crop 512, one image of ADE20K, random weights",
        tuple(Contestant(name, build, base | kind, items=1) for name, kind in kinds.items()),
        (Comparison(OURS, PLAIN, tolerance=0.01), Comparison(BFLOAT16, PLAIN)),
    )


def build(
    arch: str, folder: Path, device: str, plain: bool = False, dtype: str = "float32"
) -> Callable[[], Tensor]:
    """Make a call that segments one image; it returns the share of pixels of each class."""
    cfg = model_config(f"beit3_mask2former/mask2former_beit3-{arch}_512_ade20k.py")
    init_default_scope("mmseg")
    path = find_images(folder)[0]
    image = read_image(path)
    size = image.shape[:2]
    transform = Compose(preparation(cfg))
    packed = transform({"img": image, "img_path": str(path), "img_shape": size, "ori_shape": size})
    batch = {key: [value] for key, value in packed.items()}
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device).eval()
    if plain:
        make_plain_segmentor(model)
    accelerate(model, torch.device(device), dtype, compiles=False)

    @torch.no_grad()
    def call() -> Tensor:
        labels = model.test_step(batch)[0].pred_sem_seg.data
        return labels.flatten().long().bincount(minlength=150) / labels.numel()

    return call
