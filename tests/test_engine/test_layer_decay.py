"""Layer-wise learning-rate decay, against detectron2's formula written out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from mmengine.model import BaseModule
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmbeit3.engine import layer_decay
from mmbeit3.engine.layer_decay import LayerDecayConstructor
from mmbeit3.engine.param_groups import format_groups
from mmbeit3.models import BEiT3, BEiT3Adapter, BEiT3Retrieval
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


def test_a_dual_encoder_learns_and_decays_as_released() -> None:
    """By optim_factory.py of microsoft/unilm beit3; the scale has no dimension at all."""
    encoder = dict(type="mmbeit3.BEiT3Multiway", arch=ARCH, img_size=32, vocab_size=20)
    model = BEiT3Retrieval(encoder)
    keys = dict.fromkeys(("vision.pos_embed", "cls_token"), dict(decay_mult=0.0))
    options = dict(layer_decay_rate=0.5, flat_decay_mult=0.0, custom_keys=keys)
    wrapper = LayerDecayConstructor(dict(optimizer=OPTIMIZER), options)(model)
    found = {p: group for group in wrapper.optimizer.param_groups for p in group["params"]}
    for name, param in model.named_parameters():
        parts = name.split(".")
        depth = 4  # heads, scale, final LNs
        if "embed" in name or "cls_token" in name:
            depth = 0
        elif "layers" in parts:
            depth = int(parts[parts.index("layers") + 1]) + 1
        skipped = ("encoder.vision.pos_embed", "encoder.vision.cls_token", "logit_scale")
        decay = 0.0 if param.ndim == 1 or name in skipped else 0.5
        assert found[param]["lr"] == pytest.approx(0.1 * 0.5 ** (4 - depth)), name
        assert found[param]["weight_decay"] == decay, name
    assert {p.ndim for p in model.parameters()} >= {0, 1, 2}


def test_frozen_parameters_are_left_out() -> None:
    model = Detector()
    model.backbone.patch_embed.requires_grad_(False)
    wrapper = LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.9))(model)
    held = {param for group in wrapper.optimizer.param_groups for param in group["params"]}
    assert held == {param for param in model.parameters() if param.requires_grad}
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)


def rows_of(model: nn.Module, **paramwise) -> dict[str, list[str]]:
    """The table's lines by their first cell."""
    constructor = LayerDecayConstructor(dict(optimizer=OPTIMIZER), paramwise)
    table = format_groups(constructor.groups(model), OPTIMIZER["lr"], 3)
    assert len({len(line) for line in table.splitlines()}) == 1, table
    cells = [[cell.strip() for cell in line.split("  ") if cell] for line in table.splitlines()]
    return {line[0]: line[1:] for line in cells}


def count(*modules: nn.Module) -> str:
    return f"{sum(param.numel() for module in modules for param in module.parameters()):,}"


def test_the_table_says_who_learns_how() -> None:
    model = Detector()
    rows = rows_of(model, layer_decay_rate=0.5, flat_decay_mult=0.0)
    flat = sum(p.numel() for p in model.backbone.layers[1].parameters() if p.ndim == 1)
    weights = sum(p.numel() for p in model.backbone.layers[1].parameters() if p.ndim > 1)
    assert list(rows) == [
        *("group", "patch embedding, positions", "layer 0", "layer 1", "layer 2"),
        *("backbone.norm, neck", "total"),
    ]
    assert rows["group"] == ["layer id", "lr scale", "lr", "decay 0.5", "decay 0"]
    assert rows["layer 1"] == ["2", "0.25", "2.500e-02", f"{weights:,}", f"{flat:,}"]
    totals = sum(int(cell.replace(",", "")) for cell in rows["total"])
    assert totals == sum(p.numel() for p in model.parameters())


def test_layers_that_learn_alike_share_a_line_and_frozen_parts_have_their_own() -> None:
    model = Detector()
    layers = model.backbone.layers
    layers[0].requires_grad_(False)
    model.neck.requires_grad_(False)
    keys = {"layers.2.ffn": dict(lr_mult=0.1)}
    rows = rows_of(model, layer_decay_rate=1.0, custom_keys=keys)
    rest = [module for name, module in layers[2].named_children() if name != "ffn"]
    assert rows["layers 1 to 2"] == ["2-3", "1", "1.000e-01", count(layers[1], *rest), "-"]
    assert rows["layer 2 ('layers.2.ffn')"] == ["3", "0.1", "1.000e-02", count(layers[2].ffn), "-"]
    assert rows["frozen: layer 0"] == ["1", "-", "-", "-", count(layers[0])]
    assert rows["frozen: neck"] == ["4", "-", "-", "-", count(model.neck)]


@pytest.mark.parametrize("main", [True, False])
def test_the_first_process_logs_the_table(main: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = []
    monkeypatch.setattr(layer_decay, "print_log", lambda text, logger: logged.append(text))
    monkeypatch.setattr(layer_decay, "is_main_process", lambda: main)
    settings(layer_decay_rate=0.5)
    assert ["patch embedding, positions" in text for text in logged] == [True] * main


def test_relative_positions_are_of_their_layer_and_decay() -> None:
    model = BaseModule()
    model.backbone = BEiT3(ARCH, img_size=32, window_size=2, rel_pos=True)
    constructor = LayerDecayConstructor(
        dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.5, flat_decay_mult=0.0)
    )
    groups = {name: group for group, of in constructor.groups(model).items() for name, _ in of}
    for layer in range(3):
        for axis in "hw":
            group = groups[f"backbone.layers.{layer}.attn.rel_pos.rel_pos_{axis}"]
            assert (group.layer, group.weight_decay) == (layer + 1, 0.5)


@pytest.fixture
def four_processes() -> Iterator[None]:
    """A process group whose other members are made up: enough to divide parameters."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield
    distributed.destroy_process_group()


def test_wrapped_and_sharded_models_get_the_same_groups(four_processes: None) -> None:
    constructor = LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.5))
    expected = constructor.groups(Detector())
    table = format_groups(expected, 0.1, 3)
    wrapped = nn.parallel.DistributedDataParallel(Detector())
    sharded = fully_shard(Detector(), mesh=init_device_mesh("cpu", (4,)))
    assert any(p.to_local().numel() < p.numel() for p in sharded.parameters())
    for model in (wrapped, sharded):
        groups = constructor.groups(model)
        assert list(groups) == list(expected)
        assert format_groups(groups, 0.1, 3) == table
        optimizer = constructor(model).optimizer
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
            list(model.parameters())
        )


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="layer_decay_rate is None"):
        settings()
    with pytest.raises(InputError, match=r"\['norm_decay_mult'\]"):
        settings(layer_decay_rate=0.9, norm_decay_mult=0.0)
    model = Detector()
    model.backbone.encoder = nn.Linear(2, 2)
    with pytest.raises(InputError, match="how deep the parameter backbone.encoder.weight lies"):
        LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.9)).groups(model)
    with pytest.raises(InputError, match="'norm9', which is in the name of no parameter"):
        settings(layer_decay_rate=0.9, custom_keys={"norm9": dict(decay_mult=0.0)})
    with pytest.raises(InputError, match=r"\['lr_mul'\] under 'norm1'"):
        settings(layer_decay_rate=0.9, custom_keys={"norm1": dict(lr_mul=0.0)})
    with pytest.raises(InputError, match="no weight_decay"):
        LayerDecayConstructor(dict(optimizer=dict(lr=0.1)), dict(layer_decay_rate=0.9))


def test_other_backbones_are_refused() -> None:
    constructor = LayerDecayConstructor(dict(optimizer=OPTIMIZER), dict(layer_decay_rate=0.9))
    model = BaseModule()
    with pytest.raises(InputError, match="the model has no backbone"):
        constructor(model)
    model.backbone = nn.Sequential(nn.Conv2d(3, 8, 1))
    with pytest.raises(InputError, match="the backbone Sequential; .*DefaultOptimWrapper"):
        constructor(model)
