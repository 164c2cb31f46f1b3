"""Towers answer how deep a parameter lies and what their layers are; others only ask."""

from __future__ import annotations

import pytest
from torch import nn

from mmbeit3.models import BEiT3, BEiT3Adapter
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_layers, find_towers

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def towers() -> list[BEiT3]:
    return [
        BEiT3(ARCH, img_size=32, window_size=0, with_cls_token=True, final_norm=True),
        BEiT3(ARCH, img_size=32, window_size=2, rel_pos=True),
        BEiT3Adapter(ARCH, img_size=32, conv_inplane=8),
    ]


@pytest.mark.parametrize("prefix", ["", "backbone.", "detector.backbone."])
def test_every_parameter_of_both_backbones_has_a_depth(prefix: str) -> None:
    for tower in towers():
        for name, _ in tower.named_parameters():
            depth, depths = tower.get_layer_depth(prefix + name, prefix)
            first = name.split(".")[0]
            input_parts = ("patch_embed", "pos_embed", "cls_token")
            want = 0 if first in input_parts else 5
            want = int(name.split(".")[1]) + 1 if first == "layers" else want
            assert (depth, depths) == (want, 6), name
        if prefix:
            assert tower.get_layer_depth("neck.weight", prefix) == (5, 6)
    with pytest.raises(InputError, match=f"parameter {prefix}adapter.x lies"):
        towers()[0].get_layer_depth(f"{prefix}adapter.x", prefix)


def test_towers_are_found_wherever_they_are() -> None:
    model = nn.ModuleDict(dict(one=towers()[0], rest=nn.ModuleDict(dict(two=towers()[2]))))
    assert list(find_towers(model)) == ["one.", "rest.two."]
    want = [f"{name}.layers.{index}" for name in ("one", "rest.two") for index in range(4)]
    found = find_layers(model)
    assert list(found) == want
    assert found["rest.two.layers.3"] is model["rest"]["two"].layers[3]
    assert not find_layers(nn.Linear(2, 2))
