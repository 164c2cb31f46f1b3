"""A small dual encoder of images and texts with random weights, as a config and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)


def write_dual_encoder(folder: Path, tokenizer: Path) -> tuple[Path, Path]:
    """Write ``retrieval.py`` and ``retrieval.pth``, of wide weights, so that features differ."""
    vocab_size = Tokenizer(tokenizer).vocab_size
    size = dict(arch=ARCH, img_size=32, patch_size=8, max_tokens=20, vocab_size=vocab_size)
    pipeline = [
        dict(type="mmbeit3.LoadImageFromFile"),
        dict(type="Resize", scale=(32, 32), keep_ratio=False),
        dict(type="mmbeit3.PackImageText"),
    ]
    cfg = Config(
        dict(
            default_scope="mmbeit3",
            task="retrieval",
            model=dict(
                type="mmbeit3.BEiT3Retrieval",
                encoder=dict(type="mmbeit3.BEiT3Multiway", **size),
                data_preprocessor=dict(
                    type="mmbeit3.ImageTextPreprocessor",
                    tokenizer=dict(file=str(tokenizer)),
                    max_length=20,
                ),
            ),
            test_dataloader=dict(batch_size=3, dataset=dict(pipeline=pipeline)),
        )
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    meta = {"cfg": cfg.pretty_text}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, folder / "retrieval.pth")
    cfg.dump(folder / "retrieval.py")
    return folder / "retrieval.py", folder / "retrieval.pth"
