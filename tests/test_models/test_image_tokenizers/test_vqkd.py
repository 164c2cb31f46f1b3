"""BEiT v2's image tokenizer: its files, its arithmetic by timm's ViT, its codes by distance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm.models.beit
import torch
from torch import Tensor

from mmbeit3.models import VQKD
from mmbeit3.utils import InputError

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
SIZE = dict(
    arch=ARCH,
    img_size=32,
    patch_size=8,
    decoder_layers=2,
    num_codes=30,
    code_dims=8,
    out_channels=20,
)


def vqkd(**more: Any) -> VQKD:
    """A tokenizer with every weight drawn."""
    model = VQKD(**SIZE | more)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator) * 0.2
        if "norm" in name and name.endswith("weight"):
            drawn += 1
        value.copy_(drawn)
    book = model.quantize.embedding.weight
    book.data.copy_(torch.nn.functional.normalize(book.data, dim=-1))
    model.quantize.embedding.initted.fill_(1)
    return model.eval()


def images(count: int = 5, size: int | tuple[int, int] = 32) -> Tensor:
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def timms(prefix: str, model: VQKD, **size: int) -> torch.nn.Module:
    """timm's BEiT with the weights of a tower."""
    tower = timm.models.beit.Beit(
        embed_dim=48,
        num_heads=4,
        mlp_ratio=2,
        num_classes=0,
        use_abs_pos_emb=True,
        init_values=None,
        global_pool="avg",
        **size,
    )
    state = {n.removeprefix(prefix): v for n, v in model.state_dict().items() if prefix in n}
    state = {name.removeprefix("encoder.").removeprefix("decoder."): v for name, v in state.items()}
    missing = tower.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all("k_bias" in n for n in missing.missing_keys)
    return tower.eval()


def by_hand(block: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """A layer of BEiT by its formulas: the keys have no bias."""
    width = x.shape[-1] // heads

    def norm(name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return x * block[f"{name}.weight"] + block[f"{name}.bias"]

    inside = norm("norm1", x)
    q, k, v = (inside @ part.T for part in block["attn.qkv.weight"].chunk(3))
    q, v = q + block["attn.q_bias"], v + block["attn.v_bias"]
    attended = []
    for own in (slice(head * width, (head + 1) * width) for head in range(heads)):
        scores = q[..., own] @ k[..., own].transpose(1, 2) / width**0.5
        scores = scores.exp() / scores.exp().sum(-1, keepdim=True)
        attended.append(scores @ v[..., own])
    x = x + torch.cat(attended, -1) @ block["attn.proj.weight"].T + block["attn.proj.bias"]
    hidden = norm("norm2", x) @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"]
    hidden = hidden / 2 * (1 + torch.erf(hidden / 2**0.5))
    return x + hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]


# of the second one 50 * (115 / 50) is 114.99...
@pytest.mark.parametrize(
    "arch", [ARCH, dict(ARCH, embed_dims=50, num_heads=5, feedforward_channels=115)]
)
@torch.no_grad()
def test_a_layer_is_what_its_formulas_say(arch: dict[str, int]) -> None:
    model = vqkd(arch=arch).double()
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        assert len(block.mlp.fc1.weight) == arch["feedforward_channels"]
        x = torch.randn(2, 17, arch["embed_dims"], dtype=torch.float64)
        want = by_hand(block.state_dict(), x, arch["num_heads"])
        assert torch.allclose(block(x), want, atol=1e-12)


@torch.no_grad()
def test_both_towers_are_beits_vit() -> None:
    model = vqkd()
    encoder = timms("encoder.", model, img_size=32, patch_size=8, depth=3)
    want = encoder.fc_norm(encoder.forward_features(images())[:, 1:])
    assert (model.encoder(images()) - want).abs().max() < 1e-5 * want.abs().max()
    decoder = timms("decoder.", model, img_size=4, patch_size=1, depth=2, in_chans=8)
    vectors = torch.randn(5, 16, 8)
    grid = vectors.transpose(1, 2).reshape(5, 8, 4, 4)
    features = decoder.fc_norm(decoder.forward_features(grid)[:, 1:])
    hidden = torch.tanh(
        features @ model.decode_task_layer[0].weight.T + model.decode_task_layer[0].bias
    )
    want = hidden @ model.decode_task_layer[2].weight.T + model.decode_task_layer[2].bias
    assert (model.decode(vectors) - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("size", [32, (24, 40)], ids=str)
def test_a_code_is_the_nearest_vector(size: int | tuple[int, int]) -> None:
    model = vqkd(img_size=size).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = images(size=size).double()
    for training in (False, True):  # codes are asked for, nothing is learned
        found = model.train(training).codes(pixels)
        features = model.features(pixels)
        features = features / features.norm(dim=-1, keepdim=True)
        book = model.quantize.embedding.weight
        distances = (features[:, :, None] - book).norm(dim=-1)  # (B, patches, codes)
        assert torch.equal(found, distances.argmin(-1))
        assert found.shape == (5, model.grid_size[0] * model.grid_size[1])
    assert found.unique().numel() > 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.eval()(pixels), found)


def test_evaluation_moves_nothing() -> None:
    model = vqkd()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.quantize(model.features(images()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_official_files_load_strictly(tmp_path: Path, key: str) -> None:
    state = vqkd().state_dict()
    teacher = {"teacher_model.conv1.weight": torch.ones(3), "scaling_layer.scale": torch.ones(3)}
    file = tmp_path / "vqkd_encoder_base_decoder_3x768x12_clip.pth"
    torch.save({key: dict(state) | teacher}, file)
    start = dict(type="Pretrained", checkpoint=str(file))
    model = VQKD(**SIZE, init_cfg=start)
    model.init_weights()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for change, match in (
        (dict(decoder_layers=1), "of another model"),
        (dict(num_codes=40), r"quantize.embedding.weight \(30, 8\) -> \(40, 8\)"),
        (dict(out_channels=768), r"decode_task_layer.2.weight \(20, 48\) -> \(768, 48\)"),
    ):
        with pytest.raises(InputError, match=match):
            VQKD(**SIZE | change, init_cfg=start).init_weights()
    del state["encoder.fc_norm.bias"]
    torch.save({key: state}, file)
    with pytest.raises(InputError, match="encoder.fc_norm.bias"):
        model.init_weights()


def test_positions_of_a_file_are_resized(tmp_path: Path) -> None:
    state = vqkd().state_dict()
    torch.save({"model": state}, tmp_path / "small.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "small.pth"))
    model = VQKD(**SIZE | dict(img_size=(48, 64)), init_cfg=start)
    model.init_weights()
    for name in ("encoder.pos_embed", "decoder.pos_embed"):
        table = state[name][:, 1:].reshape(1, 4, 4, 48).permute(0, 3, 1, 2)
        want = torch.nn.functional.interpolate(table, size=(6, 8), mode="bicubic")
        found = model.state_dict()[name]
        assert torch.equal(found[:, :1], state[name][:, :1])
        assert torch.allclose(found[:, 1:], want.flatten(2).transpose(1, 2))
    assert model.codes(images(2, (48, 64))).shape == (2, 48)


def test_the_official_sizes_have_the_official_counts() -> None:
    with torch.device("meta"):
        model = VQKD()
    count = {
        name: sum(value.numel() for n, value in model.state_dict().items() if n.startswith(name))
        for name in ("encoder.", "encode_task_layer.", "quantize.embedding.weight", "decode")
    }
    assert list(count.values()) == [85_789_440, 615_200, 262_144, 22_424_576]
    whole = sum(value.numel() for value in model.state_dict().values())
    assert 4 * whole == pytest.approx(437.5e6, rel=1e-4)  # bytes of the published file


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="img_size is 30 x 30 and patch_size 8"):
        VQKD(**SIZE | dict(img_size=30))
    with pytest.raises(
        InputError, match="have 24 x 32 pixels, and the image tokenizer takes 32 x 32"
    ):
        vqkd().codes(images(1, (24, 32)))
