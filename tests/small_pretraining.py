"""A small model of masked data modeling, and batches for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbeit3.models import BEiT3Pretraining
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from tests.small_tokenizer import sentences

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
CODES = 20


@MODELS.register_module(name="BrightnessCodes", force=True)
class BrightnessCodes(nn.Module):
    """An image tokenizer without weights: the code of a patch is how bright it is."""

    def __init__(self, img_size: int = 32, patch_size: int = 8, num_codes: int = CODES) -> None:
        super().__init__()
        self.patch_size, self.num_codes = patch_size, num_codes
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.init_cfg = dict(type="Constant")

    def init_weights(self) -> None:
        """Nothing to do."""

    def codes(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) of -1 to 1 -> (B, patches)."""
        mean = nn.functional.avg_pool2d(images, self.patch_size).mean(1).flatten(1)
        return ((mean * 3 + 1) / 2 * self.num_codes).long().clamp(0, self.num_codes - 1)


def config(tokenizer: Path, encoder: dict | None = None, **more: Any) -> dict:
    """The model as a config."""
    vocab_size = Tokenizer(tokenizer).vocab_size
    size = dict(arch=ARCH, img_size=32, patch_size=8, max_tokens=20, vocab_size=vocab_size)
    model = dict(
        type="mmbeit3.BEiT3Pretraining",
        encoder=dict(type="mmbeit3.BEiT3Multiway", **size | (encoder or {})),
        image_tokenizer=dict(type="mmbeit3.BrightnessCodes"),
        num_codes=CODES,
        data_preprocessor=dict(
            type="mmbeit3.PretrainingPreprocessor",
            tokenizer=dict(file=str(tokenizer)),
            max_length=20,
        ),
    )
    return model | more


def pretraining(tokenizer: Path, encoder: dict | None = None, **more: Any) -> BEiT3Pretraining:
    """The model, initialized."""
    torch.manual_seed(0)
    model = MODELS.build(config(tokenizer, encoder, **more))
    model.init_weights()
    return model


def batch(size: int = 4, parts: Sequence[str] = ("images", "texts", "pairs")) -> dict[str, Any]:
    """What a loader makes of ``size`` items of each part; the first ones are always the same."""
    found: dict[str, Any] = {}
    for number, part in enumerate(parts):
        samples, images = [], []
        for index in range(size):
            generator = torch.Generator().manual_seed(100 * number + index)
            shape = (3, 32, 32)
            images.append(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
            sample = BaseDataElement(metainfo=dict(mask_seed=50 * number + index, img_path="x.png"))
            if part != "images":
                sample.texts = [sentences()[50 * number + index]]
            samples.append(sample)
        found[part] = dict(data_samples=samples)
        if part != "texts":
            found[part]["inputs"] = images
    return found
