"""Official weights compute here what timm's and torchscale's BEiT-3 compute with them.

Every comparison is layer by layer, relative to the largest value of that layer's output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from mmbeit3.checkpoint import load_backbone, official_state_dict
from mmbeit3.models import BEiT3

from .official import (
    BASE,
    LARGE,
    SMALL,
    WITH_FINAL_LN,
    Size,
    backbone,
    official_weights,
    randomise,
    save_official,
    torchscale_beit3,
    vision_names,
)

TOLERANCE = 1e-5
POSITIONS = "beit3.encoder.embed_positions.A.weight"
# timm's names to the official ones, written down independently of mmbeit3
TIMM_TO_OFFICIAL = {
    "patch_embed.": "beit3.vision_embed.",
    "cls_token": "beit3.vision_embed.cls_token",
    "blocks.": "beit3.encoder.layers.",
    ".attn.norm.": ".self_attn.inner_attn_ln.A.",
    ".attn.proj.": ".self_attn.out_proj.A.",
    ".norm1.": ".self_attn_layer_norm.A.",
    ".norm2.": ".final_layer_norm.A.",
    ".mlp.norm.": ".ffn.A.ffn_layernorm.",
    ".mlp.": ".ffn.A.",
}


def timm_beit3(size: Size, img_size: int | tuple[int, int] = 224, **options) -> nn.Module:
    sizes = dict(
        img_size=img_size,
        patch_size=size.patch,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=size.hidden / size.width,
    )
    model = timm.create_model("beit3_base_patch16_224", **sizes | options)
    return randomise(model, size).eval()


def as_official(model: nn.Module) -> dict[str, Tensor]:
    """A timm model's weights as an official ImageNet file has them."""
    state = {}
    for name, value in model.state_dict().items():
        if name == "pos_embed":
            unused_rows = torch.randn(2, value.shape[-1])
            state[POSITIONS] = torch.cat([unused_rows, value[0]])
            continue
        for theirs, official in TIMM_TO_OFFICIAL.items():
            name = name.replace(theirs, official)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[name.replace(".attn.qkv.", f".self_attn.{letter}_proj.A.")] = part
        else:
            state[name] = value
    return {name: value.half().clone() for name, value in state.items()}


def from_file(path: Path | str, size: Size, img_size: int | tuple[int, int], **options) -> BEiT3:
    init_cfg = dict(type="Pretrained", checkpoint=str(path))
    model = backbone(size, img_size, init_cfg=init_cfg, **options)
    model.init_weights()
    return model


def outputs_of(layers: Iterable[nn.Module], run: Callable[[], Tensor]) -> list[Tensor]:
    """The output of every layer, and last what ``run`` returns."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        found.append(run())
    for hook in hooks:
        hook.remove()
    return found


def ours(model: BEiT3, x: Tensor) -> list[Tensor]:
    def run() -> Tensor:
        feature_map, cls = model.encode(x)
        return torch.cat([cls[:, None], feature_map.flatten(2).transpose(1, 2)], 1)

    return outputs_of(model.layers, run)


def timms(model: nn.Module, x: Tensor) -> list[Tensor]:
    return outputs_of(model.blocks, lambda: model.forward_features(x))


def torchscales(model: nn.Module, x: Tensor) -> list[Tensor]:
    run = model.encoder.layers
    return outputs_of(run, lambda: model(visual_tokens=x)["encoder_out"])


def difference(got: list[Tensor], want: list[Tensor]) -> float:
    """Of the layer that differs most: the largest difference over its largest value."""
    pairs = list(zip(got, want, strict=True))
    assert all(one.shape == two.shape for one, two in pairs)
    worst = max(((one - two).abs().max() / two.abs().max()).item() for one, two in pairs)
    print(f"largest relative difference of {len(pairs)} outputs: {worst:.2e}")
    return worst


@pytest.mark.parametrize(
    "size", [BASE, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["base", "large"]
)
def test_every_layer_equals_timms_from_an_official_file(tmp_path: Path, size: Size) -> None:
    theirs = timm_beit3(size)
    weights = as_official(theirs)
    for name, value in checkpoint_filter_fn(dict(weights), theirs).items():
        assert torch.equal(value.float(), theirs.state_dict()[name]), name
    model = from_file(save_official(weights, tmp_path / "a.pth"), size, 224, final_norm=False)
    x = torch.randn(2, 3, 224, 224)
    assert difference(ours(model, x), timms(theirs, x)) < TOLERANCE


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("pool", ["avg", "token"])
def test_timms_own_files_compute_the_same(tmp_path: Path, suffix: str, pool: str) -> None:
    # With pool="token" timm applies a final LN, which it calls `norm` as we do.
    theirs = timm_beit3(SMALL, 48, global_pool=pool)
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path, metadata={"format": "pt"})
    model = from_file(path, SMALL, 48, final_norm=pool == "token")
    x = torch.randn(2, 3, 48, 48)
    assert difference(ours(model, x), timms(theirs, x)) < TOLERANCE


@pytest.mark.parametrize(
    ("size", "img_size"),
    [
        (SMALL._replace(patch=16), 384),
        (SMALL._replace(patch=16), 112),
        (SMALL._replace(patch=16), (160, 288)),
        pytest.param(BASE, 384, marks=pytest.mark.slow),
    ],
)
def test_resized_positions_compute_what_timms_do(
    tmp_path: Path, size: Size, img_size: int | tuple[int, int]
) -> None:
    source, theirs = timm_beit3(size, 224), timm_beit3(size, img_size)
    weights = as_official(source)
    # timm would round its resized table to the file's half precision.
    wide = {name: value.float() for name, value in weights.items()}
    # The released BEiT-3 code resizes without antialiasing, timm by default with it.
    for antialias in (True, False):
        resized = checkpoint_filter_fn(dict(wide), theirs, antialias=antialias)
        theirs.load_state_dict(resized)
        height, width = theirs.patch_embed.img_size
        x = torch.randn(2, 3, height, width)
        path = save_official(weights, tmp_path / "official.pth")
        model = from_file(path, size, img_size, final_norm=False)
        found = difference(ours(model, x), timms(theirs, x))
        # A model of another size resizes while it runs: the same.
        at_224 = from_file(path, size, 224, final_norm=False)
        assert difference(ours(at_224, x), ours(model, x)) < TOLERANCE
        assert found > 100 * TOLERANCE if antialias else found < TOLERANCE


@pytest.mark.parametrize(
    ("size", "img_size"),
    [
        (SMALL, 48),
        (Size(64, 3, 2, 160, patch=16, vocabulary=64), 96),
        (Size(40, 1, 5, 200, patch=4, vocabulary=64), 20),
        pytest.param(BASE._replace(vocabulary=64), 224, marks=pytest.mark.slow),
    ],
    ids=["small", "wide heads", "one layer", "base"],
)
@pytest.mark.parametrize("kind", ["pretrained", "in1k"])
def test_every_layer_equals_torchscales(
    tmp_path: Path, kind: str, size: Size, img_size: int
) -> None:
    final_norm = kind in WITH_FINAL_LN
    weights = official_weights(kind, size, img_size)
    theirs = published(weights, size, img_size, final_norm)
    path = save_official(weights, tmp_path / f"beit3_{kind}.pth")
    model = from_file(path, size, img_size, final_norm=final_norm)
    x = torch.randn(2, 3, img_size, img_size)
    assert difference(ours(model, x), torchscales(theirs, x)) < TOLERANCE


def published(
    weights: dict[str, Tensor], size: Size, img_size: int, final_norm: bool = True
) -> nn.Module:
    """torchscale's model with the weights of an official file."""
    model = torchscale_beit3(size, img_size, final_norm)
    core = {name: value for name, value in weights.items() if name.startswith("beit3.")}
    model.load_state_dict({name.removeprefix("beit3."): v.float() for name, v in core.items()})
    return model


@pytest.mark.parametrize("new", [96, 32])
def test_resized_positions_compute_what_the_released_code_does(tmp_path: Path, new: int) -> None:
    weights = official_weights("itc")
    # microsoft/unilm beit3/utils.py: three rows stay, the square of patches is resized
    table = weights[POSITIONS].float()
    square = table[3:].T.unflatten(1, (6, 6))[None]
    grid = new // SMALL.patch
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    resized = torch.cat([table[:3], square[0].flatten(1).T])
    theirs = published(weights | {POSITIONS: resized}, SMALL, new)
    path = save_official(weights, tmp_path / "official.pth")
    x = torch.randn(2, 3, new, new)
    want = torchscales(theirs, x)
    for img_size in (new, 48):  # resized when loading, and while running
        assert difference(ours(from_file(path, SMALL, img_size), x), want) < TOLERANCE


def swapped(one: str, two: str) -> Callable[[dict[str, Tensor]], None]:
    def swap(weights: dict[str, Tensor]) -> None:
        for kind in ("weight", "bias"):
            first, second = (f"beit3.encoder.layers.1.{name}.{kind}" for name in (one, two))
            weights[first], weights[second] = weights[second], weights[first]

    return swap


def shifted(weights: dict[str, Tensor]) -> None:
    weights[POSITIONS] = weights[POSITIONS].roll(1, 0)


def transposed(weights: dict[str, Tensor]) -> None:
    patches = weights[POSITIONS][3:].unflatten(0, (6, 6)).transpose(0, 1).flatten(0, 1)
    weights[POSITIONS] = torch.cat([weights[POSITIONS][:3], patches])


@pytest.mark.parametrize(
    "damage",
    [
        swapped("self_attn.q_proj.A", "self_attn.k_proj.A"),
        swapped("self_attn.k_proj.A", "self_attn.v_proj.A"),
        swapped("self_attn.v_proj.A", "self_attn.out_proj.A"),
        swapped("self_attn_layer_norm.A", "final_layer_norm.A"),
        swapped("self_attn_layer_norm.A", "self_attn.inner_attn_ln.A"),
        swapped("ffn.A.fc1", "ffn.B.fc1"),
        swapped("self_attn.q_proj.A", "self_attn.q_proj.B"),
        shifted,
        transposed,
    ],
    ids=["q-k", "k-v", "v-out", "norms", "sub-LN", "ffn A-B", "q A-B", "shifted", "transposed"],
)
def test_the_comparison_sees_a_wrong_order(damage: Callable[[dict[str, Tensor]], None]) -> None:
    weights, model = official_weights("pretrained"), backbone()
    theirs = published(weights, SMALL, 48)
    damage(weights)
    load_backbone(model, weights)
    x = torch.randn(2, 3, 48, 48)
    assert difference(ours(model, x), torchscales(theirs, x)) > 100 * TOLERANCE


def test_the_comparison_sees_every_weight() -> None:
    weights, model = official_weights("pretrained"), backbone()
    x = torch.randn(2, 3, 48, 48)
    load_backbone(model, weights)
    want, noise = ours(model, x), torch.Generator().manual_seed(1)
    for name in vision_names(weights):
        other = weights[name] + torch.randn(weights[name].shape, generator=noise).half() / 4
        load_backbone(model, weights | {name: other})
        found = difference(ours(model, x), want)
        # The bias of k shifts a query's logits alike, which softmax takes out.
        if name.endswith(("mask_token", "k_proj.A.bias")):
            assert found < TOLERANCE, name
        else:
            assert found > 100 * TOLERANCE, name


def test_faint_tokens_show_the_eps_of_every_layer_norm() -> None:
    weights, model = official_weights("pretrained"), backbone()
    is_scale = re.compile(r"(norm|ln|layernorm)(\.[AB])?\.weight$")
    for name, value in weights.items():
        if not is_scale.search(name):
            value.div_(64)
    load_backbone(model, weights)
    x = torch.randn(2, 3, 48, 48)
    want = torchscales(published(weights, SMALL, 48), x)
    assert difference(ours(model, x), want) < TOLERANCE
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
            assert difference(ours(model, x), want) > 10 * TOLERANCE, name
            module.eps = 1e-5


def test_what_we_export_computes_the_same_in_timm_and_in_torchscale() -> None:
    model = randomise(backbone(), SMALL)
    x = torch.randn(2, 3, 48, 48)
    want, exported = ours(model, x), official_state_dict(model.state_dict())
    theirs = torchscale_beit3(SMALL, 48)
    state = {name.removeprefix("beit3."): value for name, value in exported.items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(".B." in name or name == "text_embed.weight" for name in missing)
    assert difference(torchscales(theirs, x), want) < TOLERANCE

    theirs = timm_beit3(SMALL, 48)
    state = checkpoint_filter_fn(dict(exported), theirs)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    # timm's towers have no final LN; their read-out is no part of ours
    assert sorted(unexpected) == ["layer_norm.bias", "layer_norm.weight"]
    assert all(name.startswith(("fc_norm.", "head.")) for name in missing)
    assert difference(timms(theirs, x)[:-1], want[:-1]) < TOLERANCE
