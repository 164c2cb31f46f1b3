"""Files like those that Microsoft released, built from torchscale's own BEiT3 module.

The tasks' heads follow microsoft/unilm beit3/modeling_finetune.py. The released files hold half
precision under the key ``model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cases.tower import published_beit3
from mmbeit3.models import BEiT3


class Size(NamedTuple):
    """Of a tower; the defaults are those of every released file."""

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int = 16
    vocabulary: int = 64010

    @property
    def arch(self) -> dict[str, int]:
        """As mmbeit3.BEiT3 takes it."""
        return dict(
            embed_dims=self.width,
            num_layers=self.depth,
            num_heads=self.heads,
            feedforward_channels=self.hidden,
        )


BASE = Size(768, 12, 12, 3072)
LARGE = Size(1024, 24, 16, 4096)
GIANT = Size(1408, 40, 16, 6144, patch=14)
SMALL = Size(48, 2, 4, 96, patch=8, vocabulary=64)

# What reads the tower's output in each kind of file; "itc" is also that of the retrieval files.
WITH_FINAL_LN = ("pretrained", "itc", "nlvr2", "captioning")
WITHOUT_FINAL_LN = ("in1k", "vqa")
KINDS = WITH_FINAL_LN + WITHOUT_FINAL_LN


def torchscale_beit3(size: Size, img_size: int = 224, final_norm: bool = True) -> nn.Module:
    """The published model itself; the test that asks for it is skipped without torchscale."""
    pytest.importorskip(
        "torchscale", reason="needs torchscale: pip install --no-deps torchscale==0.3.0"
    )
    return published_beit3(size.arch, img_size, size.patch, size.vocabulary, final_norm)


def official_weights(
    kind: str, size: Size = SMALL, img_size: int = 48, device: str = "cpu", seed: int = 0
) -> dict[str, Tensor]:
    """All weights of a released kind of file, in half precision and drawn at random."""
    with torch.device(device):
        model = task_heads(kind, size)
        model["beit3"] = torchscale_beit3(size, img_size, kind in WITH_FINAL_LN)
        state = randomise(model, size, seed).state_dict()
        if kind == "itc":
            state["logit_scale"] = torch.tensor(2.66)
    return {name: value.half() for name, value in state.items()}


def task_heads(kind: str, size: Size) -> nn.ModuleDict:
    """The modules around the tower, under the names of the released code."""
    width, linear, norm = size.width, nn.Linear, nn.LayerNorm
    if kind == "pretrained":
        heads = dict(mlm_head=linear(width, size.vocabulary), mim_head=linear(width, 8192))
    elif kind == "captioning":
        heads = dict(mlm_head=linear(width, size.vocabulary))
    elif kind == "itc":
        names = ("language_head", "vision_head")
        heads = {name: linear(width, width, bias=False) for name in names}
    elif kind == "in1k":
        heads = dict(fc_norm=norm(width), head=linear(width, 1000))
    elif kind == "vqa":
        inner, answers = 2 * width, 3129
        layers = (linear(width, inner), norm(inner), nn.GELU(), linear(inner, answers))
        pooler = nn.ModuleDict(dict(norm=norm(width), dense=linear(width, width)))
        heads = dict(pooler=pooler, head=nn.Sequential(*layers))
    elif kind == "nlvr2":
        layers = dict(
            norm1=norm(4 * width),
            dense1=linear(4 * width, 2 * width),
            norm2=norm(2 * width),
            dense2=linear(2 * width, 2),
        )
        heads = dict(head=nn.ModuleDict(layers))
    else:
        raise KeyError(kind)
    return nn.ModuleDict(heads)


def randomise(model: nn.Module, size: Size, seed: int = 0) -> nn.Module:
    """Draw every weight anew: zeros and ones as after construction would hide mistakes.

    Attention is then far from uniform, and half precision holds every number.
    """
    torch.manual_seed(seed)
    for param in model.parameters():
        nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=1.4 * size.width**-0.5)
        param.data.copy_(param.data.half())
    return model


def save_official(weights: Mapping[str, Tensor], path: Path) -> str:
    """Write weights as the released files hold them."""
    torch.save({"model": dict(weights)}, path)
    return str(path)


def is_text(name: str) -> bool:
    return ".B." in name or name == "beit3.text_embed.weight"


def vision_names(weights: Mapping[str, Tensor]) -> list[str]:
    return [name for name in weights if name.startswith("beit3.") and not is_text(name)]


def backbone(size: Size = SMALL, img_size: int | tuple[int, int] = 48, **options) -> BEiT3:
    """Ours as the published tower computes: global attention, CLS token, final LN."""
    published = dict(patch_size=size.patch, window_size=0, with_cls_token=True, final_norm=True)
    return BEiT3(size.arch, img_size, **published | options).eval()
