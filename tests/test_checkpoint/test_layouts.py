"""Every released kind of file is read, sorted and written back; everything else is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from mmbeit3.checkpoint import find_layout, load_backbone, official_state_dict, read_tower
from mmbeit3.checkpoint.layouts import own_prefix
from mmbeit3.utils import InputError

from .official import (
    BASE,
    GIANT,
    KINDS,
    LARGE,
    SMALL,
    WITH_FINAL_LN,
    Size,
    backbone,
    is_text,
    official_weights,
    randomise,
    vision_names,
)

NEVER_READ = ("mask_token", "pos_embed_unused")


def total(weights: dict[str, Tensor], names: list[str] | None = None) -> int:
    return sum(weights[name].numel() for name in (weights if names is None else names))


def official_tower(kind: str = "pretrained") -> dict[str, Tensor]:
    weights = official_weights(kind)
    return {name: weights[name] for name in vision_names(weights)}


def timm_weights() -> dict[str, Tensor]:
    model = timm.create_model(
        "beit3_base_patch16_224", img_size=48, patch_size=8, embed_dim=48, depth=2, num_heads=4
    )
    return model.state_dict()


@pytest.mark.parametrize(
    ("size", "vision", "core", "names", "text"),
    [
        (BASE, 85_893_120, 220_987_392, 491, 244),
        (LARGE, 303_550_464, 672_702_464, 971, 484),
        (GIANT, 1_011_810_816, 2_113_992_704, 1611, 804),  # by formula; never released
    ],
    ids=["base", "large", "giant"],
)
def test_full_size_files_split_as_published(
    size: Size, vision: int, core: int, names: int, text: int
) -> None:
    weights = official_weights("pretrained", size, 224, device="meta")
    tower = read_tower(weights)
    assert total(tower.weights) == vision
    heads = tower.unused["heads"]
    assert sorted(heads) == ["mim_head.bias", "mim_head.weight", "mlm_head.bias", "mlm_head.weight"]
    assert len(weights) == names + 4
    assert total(weights) - total(weights, heads) == core
    assert len(tower.unused["text branch"]) == text
    assert total(weights, [name for name in weights if is_text(name)]) == core - vision
    with torch.device("meta"):
        own = backbone(size, 224).state_dict()
    shapes = {name: value.shape for name, value in tower.weights.items() if name not in NEVER_READ}
    assert shapes == {name: value.shape for name, value in own.items()}


@pytest.mark.parametrize(
    ("kind", "img_size", "base", "large", "heads"),
    # microsoft/unilm beit3/README.md, in millions: 276 and 746, 222 and 674, 271 and 739, 228 and
    # 683; the ImageNet file of base, text branch and all, is 887 MB in single precision
    [
        ("pretrained", 224, 276_510_730, 746_709_514, 4),
        ("itc", 224, 222_167_041, 674_799_617, 3),
        ("itc", 384, 222_458_881, 675_188_737, 3),
        ("nlvr2", 224, 225_719_810, 681_109_506, 8),
        ("captioning", 480, 270_751_754, 739_033_610, 2),
        ("in1k", 224, 221_754_856, 673_725_416, 4),
        ("vqa", 480, 228_110_649, 682_985_529, 10),
    ],
)
def test_every_kind_of_file_has_the_published_size(
    kind: str, img_size: int, base: int, large: int, heads: int
) -> None:
    for size, count in ((BASE, base), (LARGE, large)):
        weights = official_weights(kind, size, img_size, device="meta")
        tower = read_tower(weights)
        assert total(weights) == count
        assert len(tower.unused["heads"]) == heads
        assert ("norm.weight" in tower.weights) == (kind in WITH_FINAL_LN)
        grid = img_size // 16
        assert tower.weights["pos_embed"].shape == (1, 1 + grid * grid, size.width)


@pytest.mark.parametrize(("size", "name"), [(BASE, "base"), (LARGE, "large")])
def test_an_imagenet_file_without_its_text_branch_is_timms_model(size: Size, name: str) -> None:
    weights = official_weights("in1k", size, 224, device="meta")
    tower = read_tower(weights)
    used = total(tower.weights) - total(tower.weights, list(NEVER_READ))
    with torch.device("meta"):
        theirs = timm.create_model(f"beit3_{name}_patch16_224")
    count = used + total(weights, tower.unused["heads"])
    assert count == sum(param.numel() for param in theirs.parameters())
    assert round(count / 1e6, 2) == {"base": 86.66, "large": 304.57}[name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_vision_branch_is_told_from_text_and_heads(kind: str) -> None:
    weights = official_weights(kind)
    tower = read_tower(weights)
    assert tower.layout == "official"
    text = [name for name in weights if is_text(name)]
    heads = [name for name in weights if not name.startswith("beit3.")]
    assert sorted(tower.unused["text branch"]) == sorted(text)
    assert sorted(tower.unused["heads"]) == sorted(heads)
    assert total(tower.weights) == total(weights, vision_names(weights))


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_read_as_timms_converter_reads_them(kind: str) -> None:
    weights = official_weights(kind)
    theirs = timm.create_model(
        "beit3_base_patch16_224", img_size=48, patch_size=8, embed_dim=48, depth=2, num_heads=4
    )
    converted = checkpoint_filter_fn(dict(weights), theirs)
    ours = read_tower(weights).weights
    renamed = {
        name.replace("layers.", "blocks.").replace(".ffn.", ".mlp."): value
        for name, value in ours.items()
        if name not in (*NEVER_READ, "norm.weight", "norm.bias")
    }
    heads = [name for name in converted if name in weights]
    beside = {"layer_norm.weight", "layer_norm.bias", *heads}
    assert renamed.keys() == converted.keys() - beside
    for name, value in renamed.items():
        assert torch.equal(value, converted[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same_bit_for_bit(kind: str) -> None:
    want = official_tower(kind)
    tower = read_tower(official_weights(kind))
    assert_same(official_state_dict(tower.weights), want)
    # Nor does single precision, in which a model holds them, change a bit.
    model = backbone(final_norm=kind in WITH_FINAL_LN)
    load_backbone(model, official_weights(kind))
    never_read = {name: tower.weights[name] for name in NEVER_READ}
    back = official_state_dict(model.state_dict() | never_read)
    assert_same({name: value.half() for name, value in back.items()}, want)


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].dtype == value.dtype and torch.equal(got[name], value), name


def test_what_was_trained_here_goes_out_and_comes_back() -> None:
    own = randomise(backbone(), SMALL).state_dict()
    exported = official_state_dict(own)
    assert not exported["beit3.vision_embed.mask_token"].any()
    assert not exported["beit3.encoder.embed_positions.A.weight"][:2].any()
    back = read_tower(exported).weights
    assert_same({name: value for name, value in back.items() if name not in NEVER_READ}, own)
    exported["beit3.vision_embed.cls_token"].add_(1)  # a copy: the model is not changed by it
    assert not torch.equal(exported["beit3.vision_embed.cls_token"], own["cls_token"])


def test_towers_without_a_place_in_the_official_layout_are_refused() -> None:
    with pytest.raises(InputError, match="with_cls_token=False"):
        official_state_dict(backbone(with_cls_token=False).state_dict())
    for name in ("layers.0.attn.rel_pos.height", "adapter.injectors.0.gamma"):
        with pytest.raises(InputError, match=f"no place for .*{name}"):
            official_state_dict(backbone().state_dict() | {name: torch.zeros(3)})


def test_an_incomplete_tower_is_not_exported() -> None:
    own = backbone().state_dict()
    for name in own:
        if not name.startswith("norm."):
            with pytest.raises(InputError, match="CLS token" if name == "cls_token" else name):
                official_state_dict({key: own[key] for key in own if key != name})


def test_torchscales_own_names_are_read() -> None:
    weights = official_weights("itc")
    bare = {
        name.removeprefix("beit3."): value
        for name, value in weights.items()
        if name.startswith("beit3.")
    }
    assert_same(read_tower(bare).weights, read_tower(weights).weights)


@pytest.mark.parametrize("kind", ["pretrained", "in1k"])
def test_each_missing_weight_of_the_vision_branch_is_named(kind: str) -> None:
    weights = official_weights(kind)
    tried = 0
    for name in vision_names(weights):
        if name.endswith("mask_token") or ".layer_norm." in name:
            continue  # optional: what a backbone lacks of them is refused when it is loaded
        rest = {key: value for key, value in weights.items() if key != name}
        with pytest.raises(InputError) as caught:
            read_tower(rest, "cut.pth")
        bare = name.removeprefix("beit3.")
        assert f"cut.pth lacks 1 weights of BEiT-3's vision tower: {bare}." in str(caught.value)
        tried += 1
    assert tried == 2 * 20 + 4


def test_each_missing_weight_of_a_timm_file_is_named() -> None:
    weights = timm_weights()
    for name in weights:
        rest = {key: value for key, value in weights.items() if key != name}
        if name.startswith(("fc_norm.", "head.")):
            assert read_tower(rest).layout == "timm"
            continue
        own = name.replace("blocks.", "layers.").replace(".mlp.", ".ffn.")
        with pytest.raises(InputError, match=f"lacks 1 weights .*: {own}"):
            read_tower(rest)


@pytest.mark.parametrize(
    "name",
    [
        "beit3.encoder.layers.0.self_attn.rel_pos.A.weight",
        "beit3.encoder.layers.0.ffn.A.fc3.weight",
        "beit3.encoder.layers.1.gamma_1.A",
        "beit3.encoder.layers.0.self_attn.q_proj.C.weight",
        "beit3.vision_embed.norm.weight",
        "beit3.encoder.relative_position.weight",
        "beit3.pooler.A.weight",
    ],
)
def test_unknown_weights_of_the_tower_are_refused(name: str) -> None:
    weights = official_weights("pretrained") | {name: torch.ones(1)}
    with pytest.raises(InputError, match=f"does not know: .*{name.removeprefix('beit3.')}"):
        read_tower(weights)


def test_unknown_weights_of_a_timm_file_are_refused() -> None:
    with pytest.raises(InputError, match="does not know: reg_token"):
        read_tower(timm_weights() | {"reg_token": torch.ones(1)})


def detector_weights() -> dict[str, Tensor]:
    own = {f"backbone.{name}": value for name, value in backbone().state_dict().items()}
    return own | {"neck.weight": torch.ones(1), "roi_head.weight": torch.ones(1)}


def test_the_backbone_of_a_detector_is_found() -> None:
    weights = detector_weights()
    tower = read_tower(weights)
    assert tower.layout == "mmbeit3"
    assert_same(tower.weights, backbone_of(weights))
    assert tower.unused == {"other parts of the model": ["neck.weight", "roi_head.weight"]}


def backbone_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    inside = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    return {name.removeprefix("backbone."): value for name, value in inside.items()}


def test_layouts_are_told_apart() -> None:
    files = {
        "official": official_weights("itc"),
        "timm": timm_weights(),
        "mmbeit3": backbone().state_dict(),
    }
    for layout, weights in files.items():
        assert find_layout(weights) == layout and own_prefix(weights) != "backbone."
    assert find_layout(detector_weights()) == "mmbeit3"
    assert own_prefix(detector_weights()) == "backbone."
    assert find_layout({"roi_head.weight": torch.ones(1)}) is None


VIT = ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        # microsoft/unilm beit and beit2
        ([*VIT, "blocks.0.gamma_1", "blocks.0.attn.q_bias"], "a ViT, BEiT or BEiT-2 without"),
        # timm and MAE
        ([*VIT, "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"], "a ViT, BEiT or BEiT-2"),
        # mmpretrain
        (["layers.0.ln1.weight", "layers.0.attn.qkv.weight"], "a transformer without the sub-LNs"),
        # OpenAI's CLIP and OpenCLIP; Hugging Face's; SAM
        (["visual.transformer.resblocks.0.attn.in_proj_weight"], "a CLIP or SAM model"),
        (["text_model.x", "vision_model.encoder.layers.0.mlp.fc1.weight"], "a CLIP or SAM model"),
        (["image_encoder.blocks.0.attn.qkv.weight"], "a CLIP or SAM model"),
        # torchvision; mmdet
        (["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"], "a ResNet"),
        (["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"], "a ResNet"),
    ],
)
def test_files_of_other_models_are_refused_by_what_they_look_like(
    names: list[str], words: str
) -> None:
    state = {name: torch.ones(1) for name in names}
    with pytest.raises(InputError) as caught:
        read_tower(state, "other.pth")
    message = str(caught.value)
    assert message.startswith("other.pth holds no BEiT-3 vision tower; it looks like " + words)
    assert names[0] in message and "expected those of an official beit3_*.pth" in message


def test_real_vits_are_refused_before_anything_is_loaded() -> None:
    model = backbone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("vit_tiny_patch16_224", "beit_base_patch16_224", "beitv2_base_patch16_224"):
        with torch.device("meta"):
            state = timm.create_model(name).state_dict()
        with pytest.raises(InputError, match="a ViT, BEiT or BEiT-2"):
            load_backbone(model, state)
    assert_same(model.state_dict(), before)
