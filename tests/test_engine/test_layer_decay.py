"""Layer-wise learning-rate decay, against detectron2's formula written out."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmbeit3.engine.layer_decay import LayerDecayConstructor, layer_id
from mmbeit3.models import BEiT3, BEiT3Adapter
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
OPTIMIZER = dict(type="AdamW", lr=0.1, weight_decay=0.5)


class Detector(BaseModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = BEiT3(
            ARCH, img_size=32, window_size=0, with_cls_token=True, final_norm=True
        )
        self.neck = nn.Conv2d(16, 8, 1)


def settings(**paramwise) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) that each parameter gets."""
    model = Detector()
    constructor = LayerDecayConstructor(dict(type="OptimWrapper", optimizer=OPTIMIZER), paramwise)
    names = {param: name for name, param in model.named_parameters()}
    return {
        names[param]: (group["lr"], group["weight_decay"])
        for group in constructor(model).optimizer.param_groups
        for param in group["params"]
    }


def test_every_parameter_has_the_rate_of_its_depth() -> None:
    found = settings(layer_decay_rate=0.5)
    assert set(found) == {name for name, _ in Detector().named_parameters()}
    depths = {
        "backbone.patch_embed.proj.weight": 0,
        "backbone.pos_embed": 0,
        "backbone.cls_token": 0,
        "backbone.layers.0.attn.qkv.bias": 1,
        "backbone.layers.2.ffn.norm.weight": 3,
        "backbone.norm.weight": 4,
        "neck.weight": 4,
    }
    for name, depth in depths.items():
        assert found[name] == pytest.approx((0.1 * 0.5 ** (4 - depth), 0.5)), name


def test_an_adapter_learns_as_the_heads_do_and_its_tower_by_depth() -> None:
    model = BaseModule()
    model.backbone = BEiT3Adapter(dict(ARCH, num_layers=4), img_size=32, conv_inplane=8)
    wrapper = LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.5))(model)
    rates = {
        param: group["lr"] for group in wrapper.optimizer.param_groups for param in group["params"]
    }
    for name, param in model.named_parameters():
        if name.startswith("backbone.adapter."):
            depth = 5
        else:
            depth = int(name.split(".")[2]) + 1 if ".layers." in name else 0
        assert rates[param] == pytest.approx(0.1 * 0.5 ** (5 - depth)), name


def test_custom_keys_the_longest_wins() -> None:
    found = settings(
        layer_decay_rate=1.0,
        custom_keys={
            "norm1": dict(decay_mult=0.0),
            "layers.1.norm1": dict(decay_mult=0.2, lr_mult=10),
        },
    )
    assert found["backbone.layers.0.norm1.weight"] == (0.1, 0.0)
    assert found["backbone.layers.1.norm1.weight"] == pytest.approx((1.0, 0.1))
    assert found["backbone.layers.0.norm2.weight"] == (0.1, 0.5)


def test_parameters_of_one_dimension_may_be_left_undecayed() -> None:
    found = settings(
        layer_decay_rate=1.0, flat_decay_mult=0.0, custom_keys={"norm1": dict(decay_mult=0.2)}
    )
    dimensions = {name: param.ndim for name, param in Detector().named_parameters()}
    for name, (_, decay) in found.items():
        wanted = 0.1 if "norm1" in name else 0.0 if dimensions[name] == 1 else 0.5
        assert decay == pytest.approx(wanted), name
    assert found["backbone.pos_embed"][1] == 0.5


def test_frozen_parameters_are_left_out() -> None:
    model = Detector()
    model.backbone.patch_embed.requires_grad_(False)
    wrapper = LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.9))(model)
    held = {param for group in wrapper.optimizer.param_groups for param in group["params"]}
    assert held == {param for param in model.parameters() if param.requires_grad}
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="layer_decay_rate is None"):
        settings()
    with pytest.raises(InputError, match=r"\['norm_decay_mult'\]"):
        settings(layer_decay_rate=0.9, norm_decay_mult=0.0)
    with pytest.raises(InputError, match="backbone.encoder.layers.0.weight matches no rule"):
        layer_id("backbone.encoder.layers.0.weight", 12)
