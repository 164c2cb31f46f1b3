"""The backbone's arithmetic: low precision beside float32, gradients beside finite differences.

Sub-LN leaves the residual stream un-normalized, and it grows: microsoft/torchscale#14 tells of
float16 overflows. Trained weights cannot be had here, so the weights are made to grow a stream as
large as wished in a few channels, with the depth and the widths of base.
"""

from __future__ import annotations

import copy
import functools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmbeit3.models import BEiT3, SimpleFeaturePyramid

HOT = [7, 133, 500]  # the channels that grow
QUIET = [channel for channel in range(768) if channel not in HOT]

# Largest relative error (norm of the difference by norm) found in the output of a layer and of a
# level of the pyramid, in units of the roundoff of the format: 2^-8 for the 8 bits of bfloat16's
# mantissa, 2^-11 for the 11 of float16's. Both formats give the same units, as rounding alone must.
# Under autocast the branches are rounded, the stream is not; cast, every addition to the stream
# rounds too. In a large stream a branch's error is small beside what every token holds.
FOUND = {
    ("autocast", "ordinary"): (3.6, 4.15),
    ("cast", "ordinary"): (5.1, 5.6),
    ("autocast", "large"): (1.2, 1.7),
    ("cast", "large"): (2.25, 1.85),
}
MARGIN = 2.0
ROUNDOFF = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
FLOAT16_MAX = 65504


class Record(NamedTuple):
    """Outputs of every layer and of every pyramid level."""

    layers: list[Tensor]
    levels: list[Tensor]


@functools.lru_cache(maxsize=1)
def fresh() -> tuple[BEiT3, SimpleFeaturePyramid]:
    torch.manual_seed(0)
    model, neck = BEiT3("base", window_size=4), SimpleFeaturePyramid(768)
    nn.init.normal_(model.pos_embed, std=0.2)
    nn.init.orthogonal_(model.patch_embed.proj.weight.data.flatten(1), gain=2.0)
    for layer in model.layers:
        layer.attn.qkv.weight.data[: 2 * 768] *= 3  # attention that picks: scores of std 3
    return model.eval(), neck.eval()


def models(peak: float) -> tuple[BEiT3, SimpleFeaturePyramid]:
    """The one base model and pyramid, its stream made to reach ``peak`` at the last layer.

    In three channels each layer adds the same to every token, and about a third as much that
    differs from token to token.
    """
    model, neck = fresh()
    step = 1.3 * peak / model.num_layers
    for seed, layer in enumerate(model.layers):
        rows = torch.randn(len(HOT), 3072, generator=torch.Generator().manual_seed(seed))
        layer.ffn.fc2.weight.data[HOT] = rows / rows.norm(dim=1, keepdim=True) * step / 4
        layer.ffn.fc2.bias.data[HOT] = torch.tensor([0.75, -0.75, 0.4]) * step
    return model, neck


def run(
    model: BEiT3, neck: SimpleFeaturePyramid, x: Tensor, how: str, dtype: torch.dtype
) -> Record:
    """One forward pass; ``how`` is "autocast", "cast", or "float32"."""
    if how == "cast":
        model, neck, x = copy.deepcopy(model).to(dtype), copy.deepcopy(neck).to(dtype), x.to(dtype)
    layers: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, out: layers.append(out))
        for layer in model.layers
    ]
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=how == "autocast"):
        levels = neck(model(x))
    for hook in hooks:
        hook.remove()
    return Record(layers, list(levels))


@functools.lru_cache(maxsize=8)
def reference(peak: float) -> tuple[Tensor, Record]:
    """The image, and the float32 run on it."""
    x = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    return x, run(*models(peak), x, "float32", torch.float32)


def errors(got: list[Tensor], want: list[Tensor]) -> list[float]:
    return [
        ((a.double() - b.double()).norm() / b.double().norm()).item()
        for a, b in zip(got, want, strict=True)
    ]


def peaks(outs: list[Tensor]) -> list[float]:
    return [out.abs().max().item() for out in outs]


LOW = pytest.mark.parametrize("dtype", list(ROUNDOFF), ids=["bfloat16", "float16"])


@LOW
@pytest.mark.parametrize("how", ["autocast", "cast"])
@pytest.mark.parametrize("peak", [0, 1e3, 1e4])
def test_low_precision_agrees_with_float32(peak: float, how: str, dtype: torch.dtype) -> None:
    x, want = reference(peak)
    assert peak <= peaks(want.layers)[-1] <= max(1.2 * peak, 20)
    got = run(*models(peak), x, how, dtype)
    assert all(out.isfinite().all() for out in got.layers + got.levels)
    found = dict(
        layers=max(errors(got.layers, want.layers)),
        quiet_channels=max(
            errors([out[..., QUIET] for out in got.layers], [o[..., QUIET] for o in want.layers])
        ),
        levels=max(errors(got.levels, want.levels)),
    )
    units = {name: round(error / ROUNDOFF[dtype], 3) for name, error in found.items()}
    print(f"peak {peaks(want.layers)[-1]:.4g}, {dtype} {how}: {found}; in units: {units}")
    layers, levels = FOUND[how, "large" if peak else "ordinary"]
    assert max(units["layers"], units["quiet_channels"]) <= MARGIN * layers
    assert units["levels"] <= MARGIN * levels


@LOW
def test_autocast_keeps_the_stream_in_float32(dtype: torch.dtype) -> None:
    got = run(*models(0), reference(0)[0], "autocast", dtype)
    assert {out.dtype for out in got.layers} == {torch.float32}
    assert {out.dtype for out in got.levels} == {dtype}


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_bfloat16_survives_a_million(how: str) -> None:
    x, want = reference(1e6)
    got = run(*models(1e6), x, how, torch.bfloat16)
    assert peaks(want.layers)[-1] >= 1e6
    assert all(out.isfinite().all() for out in got.layers + got.levels)
    layers, levels = FOUND[how, "large"]
    assert max(errors(got.layers, want.layers)) <= MARGIN * layers * 2**-8
    assert max(errors(got.levels, want.levels)) <= MARGIN * levels * 2**-8


def test_float16_ends_at_65504() -> None:
    """Autocast holds a larger stream in the backbone, and loses it at the pyramid's door."""
    x, want = reference(6e4)
    assert 6e4 <= peaks(want.layers)[-1] < FLOAT16_MAX
    for how in ("autocast", "cast"):
        got = run(*models(6e4), x, how, torch.float16)
        assert all(out.isfinite().all() for out in got.layers + got.levels), how

    x, want = reference(8e4)
    over = [peak > FLOAT16_MAX for peak in peaks(want.layers)]
    assert over.count(True) >= 2 and not over[0]
    got = run(*models(8e4), x, "autocast", torch.float16)
    assert all(out.isfinite().all() for out in got.layers)
    assert max(errors(got.layers, want.layers)) <= MARGIN * FOUND["autocast", "large"][0] * 2**-11
    assert not any(level.isfinite().any() for level in got.levels)
    got = run(*models(8e4), x, "cast", torch.float16)
    assert [not out.isfinite().all() for out in got.layers] == over

    # What one layer adds must fit too, autocast or not.
    got = run(*models(1e6), reference(1e6)[0], "autocast", torch.float16)
    assert not got.layers[0].isfinite().all()


TINY = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
WINDOWED = dict(window_size=3, global_attn_indexes=(2,), rel_pos=True)
PUBLISHED = dict(window_size=0, with_cls_token=True, final_norm=True)
VARIANTS = pytest.mark.parametrize("options", [WINDOWED, PUBLISHED], ids=["windowed", "published"])


def tiny(options: dict) -> BEiT3:
    """A backbone whose table is smaller than the grid, with every weight drawn at random."""
    torch.manual_seed(0)
    model = BEiT3(TINY, img_size=24, patch_size=8, **options).double()
    for name, param in model.named_parameters():
        nn.init.normal_(param, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return model


@LOW
@VARIANTS
@pytest.mark.parametrize("how", ["autocast", "cast"])
@torch.no_grad()
def test_every_option_agrees_with_float64(options: dict, how: str, dtype: torch.dtype) -> None:
    model, x = tiny(options).eval(), torch.randn(2, 3, 40, 33, dtype=torch.float64)
    want = model(x)[0]
    model = model.to(dtype if how == "cast" else torch.float32)
    with torch.autocast("cpu", dtype, enabled=how == "autocast"):
        (got,) = model(x.to(next(model.parameters()).dtype))
    (error,) = errors([got], [want])
    print(f"{dtype} {how}: {error / ROUNDOFF[dtype]:.3g} units")
    assert error / ROUNDOFF[dtype] <= MARGIN * 2.4


@VARIANTS
def test_gradients_equal_finite_differences(options: dict) -> None:
    """Of the input and of every parameter, along a random direction each."""
    model = tiny(options).train()
    x = torch.randn(1, 3, 40, 33, dtype=torch.float64)
    for name, value in {"input": x, **dict(model.named_parameters())}.items():

        def feature_map(value: Tensor, name: str = name) -> Tensor:
            changed, image = ({}, value) if name == "input" else ({name: value}, x)
            return functional_call(model, changed, (image,))[0]

        point = value.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(
            feature_map, (point,), eps=1e-6, atol=1e-8, rtol=1e-6, fast_mode=True
        ), name
