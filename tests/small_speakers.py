"""Small models that answer, judge and write captions, with random weights, as configs and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
ANSWERS = ("yes", "no", "<b>two</b>", '=1+1 "quoted", with a comma', "größe")
TYPES = {"vqa": "BEiT3VQA", "nlvr2": "BEiT3NLVR2", "captioning": "BEiT3Captioning"}


def write_speaker(folder: Path, tokenizer: Path, task: str) -> tuple[Path, Path]:
    """Write ``TASK.py`` and ``TASK.pth``, of wide weights, so that results differ."""
    vocab_size = Tokenizer(tokenizer).vocab_size
    size = dict(arch=ARCH, img_size=32, patch_size=8, max_tokens=20, vocab_size=vocab_size)
    own: dict[str, Any] = {
        "vqa": dict(num_classes=len(ANSWERS)),
        "nlvr2": {},
        "captioning": dict(generation=dict(max_length=8)),
    }[task]
    images: list[dict] = [
        dict(type="mmbeit3.LoadImageFromFile"),
        dict(type="Resize", scale=(32, 32), keep_ratio=False),
    ]
    if task == "nlvr2":
        images = [dict(type="mmbeit3.ForEachImage", transforms=images)]
    cfg = Config(
        dict(
            default_scope="mmbeit3",
            task=task,
            model=dict(
                type=f"mmbeit3.{TYPES[task]}",
                encoder=dict(type="mmbeit3.BEiT3Multiway", **size),
                data_preprocessor=dict(
                    type="mmbeit3.ImageTextPreprocessor",
                    tokenizer=dict(file=str(tokenizer)),
                    max_length=20,
                ),
                **own,
            ),
            test_dataloader=dict(
                batch_size=3, dataset=dict(pipeline=[*images, dict(type="mmbeit3.PackImageText")])
            ),
        )
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".layers." not in name:  # these start large enough
                weight.mul_(3)
    meta: dict[str, Any] = {"cfg": cfg.pretty_text}
    if task == "vqa":
        meta["dataset_meta"] = {"classes": ANSWERS}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, folder / f"{task}.pth")
    cfg.dump(folder / f"{task}.py")
    return folder / f"{task}.py", folder / f"{task}.pth"
