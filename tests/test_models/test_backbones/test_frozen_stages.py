from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmbeit3.engine import LayerDecayConstructor
from mmbeit3.models import BEiT3, BEiT3Adapter
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)


def tower(frozen: int, kind: type = BEiT3, **options: Any) -> BEiT3:
    torch.manual_seed(0)
    model = kind(ARCH, img_size=64, frozen_stages=frozen, drop_path_rate=0.2, **options)
    model.init_weights()
    return model


def frozen_names(model: nn.Module) -> set[str]:
    """Names of frozen parameters up to what says where they are."""
    names = (name for name, param in model.named_parameters() if not param.requires_grad)
    return {".".join(name.split(".")[: 2 if name.startswith("layers") else 1]) for name in names}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (-1, set()),
        (0, {"patch_embed", "pos_embed", "cls_token"}),
        (2, {"patch_embed", "pos_embed", "cls_token", "layers.0", "layers.1"}),
        (4, {"patch_embed", "pos_embed", "cls_token", "norm", *(f"layers.{i}" for i in range(4))}),
    ],
)
def test_what_is_frozen(frozen: int, expected: set[str]) -> None:
    model = tower(frozen, window_size=0, with_cls_token=True, final_norm=True).train()
    assert frozen_names(model) == expected
    assert [layer.training for layer in model.layers] == [i >= frozen for i in range(4)]


@pytest.mark.parametrize("kind", [BEiT3, BEiT3Adapter])
@pytest.mark.parametrize("with_cp", [False, True, "offload"])
@pytest.mark.parametrize("frozen", [2, 4])
def test_frozen_layers_keep_nothing_and_learn_nothing(
    kind: type, with_cp: bool | str, frozen: int
) -> None:
    """The tower's loss alone reaches the others; without the adapter all of it may be frozen."""
    if kind is BEiT3 and frozen == 4:
        model = tower(frozen, with_cp=with_cp).train()
        assert not model(torch.rand(2, 3, 64, 48))[0].requires_grad
        return
    if kind is BEiT3Adapter and with_cp == "offload":
        pytest.skip("the same way as BEiT3's")
    model = tower(frozen, kind, with_cp=with_cp).train()
    held: list[int] = []
    pack, layer = lambda x: held.append(x.numel()) or x, model.layers[1]
    counts = []

    def before(module: nn.Module, args: Any) -> None:
        counts.append(len(held))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        counts.append(len(held))

    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        sum(out.square().mean() for out in model(torch.rand(2, 3, 64, 48))).backward()
    if kind is BEiT3:
        assert counts == [0, 0]  # nothing is saved in the frozen layers, which ran once
    for name, param in model.named_parameters():
        assert (param.grad is not None) == param.requires_grad, name


def test_gradients_of_the_others_are_as_if_nothing_was_frozen() -> None:
    x = torch.rand(2, 3, 64, 64)
    grads = []
    for frozen in (-1, 3):
        torch.manual_seed(0)
        model = BEiT3(ARCH, img_size=64, frozen_stages=frozen).train()
        model.init_weights()
        model(x)[0].square().mean().backward()
        grads.append(model.layers[3].ffn.fc1.weight.grad)
    torch.testing.assert_close(*grads)


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck = tower(2), nn.Linear(32, 4)


def test_the_optimizer_has_none_of_them() -> None:
    model = Detector()
    cfg = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
    wrapper = LayerDecayConstructor(cfg, dict(layer_decay_rate=0.8))(model)
    found = {id(p) for group in wrapper.optimizer.param_groups for p in group["params"]}
    assert found == {id(p) for p in model.parameters() if p.requires_grad}
    wrapper = DefaultOptimWrapperConstructor(dict(cfg, type="OptimWrapper"))(model)
    model.neck(model.backbone(torch.rand(1, 3, 64, 64))[0].mean((2, 3))).sum().backward()
    wrapper.step()  # mmengine's names them, and keeps no state
    assert set(map(id, wrapper.optimizer.state)) == found


@pytest.mark.parametrize("frozen", [-2, 5, 1.0])
def test_impossible_numbers_are_refused(frozen: object) -> None:
    with pytest.raises(InputError, match=r"frozen_stages is .*up to 4"):
        BEiT3(ARCH, img_size=64, frozen_stages=frozen)
