"""The whole segmentor on a photograph, by a sliding window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from benchmarks.benchmark import Candidate, Case, Comparison
from benchmarks.data import batch_of, model_config, require
from benchmarks.options import Options
from benchmarks.plain_models import make_plain_segmentor
from mmbeit3.models.acceleration import accelerate
from mmbeit3.registry import MODELS
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.image_reading import read_image

PLAIN = "plain: mmseg's sliding window, naive attention"
OURS = "mmbeit3, float32"
BFLOAT16 = "mmbeit3, bfloat16"
LARGE = (4000, 3000)  # width and height of a photograph of 12 megapixels
PLAIN_LARGE, OURS_LARGE = (f"{name}, 12 megapixels" for name in (PLAIN, OURS))


def segmentor(options: Options) -> Case:
    """Mask2Former with 150 classes at a crop of 512, on a photograph as it is and enlarged.

    The pipeline resizes both to the same size; the enlarged one has more pixels to be classified.
    """
    folder = require(options.ade20k / "images" / "validation", "--ade20k")
    base = dict(arch=options.arch, folder=folder, device=options.device)
    kinds = {PLAIN: dict(plain=True), OURS: {}, BFLOAT16: dict(dtype="bfloat16")}
    kinds |= {PLAIN_LARGE: dict(plain=True, size=LARGE), OURS_LARGE: dict(size=LARGE)}
    return Case(
        "segmentor",
        f"{options.arch} Mask2Former, 150 classes, crop 512, one image of ADE20K, random weights",
        tuple(Candidate(name, build, base | kind, items=1) for name, kind in kinds.items()),
        (
            Comparison(OURS, PLAIN, tolerance=1e-3),
            Comparison(BFLOAT16, PLAIN),
            Comparison(OURS_LARGE, PLAIN_LARGE, tolerance=1e-3),
        ),
    )


def build(
    arch: str,
    folder: Path,
    device: str,
    plain: bool = False,
    dtype: str = "float32",
    size: tuple[int, int] | None = None,
) -> Callable[[], Tensor]:
    """Make a call that segments one image; it returns the share of pixels of each class.

    Args:
        arch (str): Size of the tower.
        folder (Path): Folder of images, of which the first is taken.
        device (str): Where it runs.
        plain (bool): mmseg's and mmcv's own pieces and naive attention. Defaults to False.
        dtype (str): Type to compute in. Defaults to 'float32'.
        size (tuple[int, int], optional): Width and height to enlarge the image to. Defaults to
            None, as it is.
    """
    cfg = model_config(f"beit3_mask2former/mask2former_beit3-{arch}_512_ade20k.py")
    init_default_scope("mmseg")
    image = read_image(find_images(folder)[0])
    batch = batch_of(cfg, image if size is None else cv2.resize(image, size))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    # Fresh queries say much the same: drawn like this, several classes win somewhere.
    nn.init.normal_(model.decode_head.cls_embed.weight, std=1.0)
    nn.init.normal_(model.decode_head.mask_embed[-1].weight, std=1.0)
    model.to(device).eval()
    if plain:
        make_plain_segmentor(model)
    else:
        accelerate(model, dtype)

    @torch.no_grad()
    def call() -> Tensor:
        labels = model.test_step(batch)[0].pred_sem_seg.data
        return labels.flatten().long().bincount(minlength=150) / labels.numel()

    return call
