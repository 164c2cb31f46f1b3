"""Attention and features of a layer, over the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmbeit3
from mmbeit3.inference.inferencer import Inferencer
from mmbeit3.utils import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PATCH, WINDOW = 8, 3
TOWERS = {
    "windows": dict(window_size=WINDOW, global_attn_indexes=[1, 3]),
    "relative positions": dict(window_size=WINDOW, global_attn_indexes=[1, 3], rel_pos=True),
    "cls token": dict(window_size=0, with_cls_token=True, final_norm=True),
}


@pytest.fixture(params=TOWERS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Inferencer:
    """A detector of four layers with random weights."""
    cfg = Config.fromfile(
        CONFIGS / "beit3_vitdet" / "cascade-mask-rcnn_beit3-tiny_shapes.py",
    )
    arch = dict(embed_dims=192, num_layers=4, num_heads=3, feedforward_channels=64)
    cfg.model.backbone.pop("window_size")
    cfg.model.backbone.update(arch=arch, img_size=48, **TOWERS[request.param])
    init_default_scope("mmdet")
    torch.manual_seed(0)
    built = MODELS.build(cfg.model)
    for parameter in built.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    meta = {"dataset_meta": {"classes": tuple("abcde")}}
    torch.save({"meta": meta, "state_dict": built.state_dict()}, tmp_path / "weights.pth")
    return mmbeit3.load(cfg, tmp_path / "weights.pth", device="cpu")


def noise(height: int = 128, width: int = 88) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_attention_sums_to_one(model: Inferencer, layer: int) -> None:
    for at in (None, (3, 5), (87, 127)):
        found = model.attention(noise(), layer, at=at)
        assert found.weights.shape == (3, 16, 11) and found.weights.min() >= 0
        np.testing.assert_allclose(found.weights.sum((1, 2)) + found.cls, 1, atol=1e-5)
        assert bool(found.cls.any()) == (model.model.backbone.cls_token is not None)


def test_attention_is_that_of_the_tower(model: Inferencer) -> None:
    """The values, mixed by the weights of one query, are what the layer's attention returns."""
    tower = model.model.backbone
    inputs = {}
    for index, layer in enumerate(tower.layers):
        layer.attn.norm.register_forward_pre_hook(
            lambda module, args, index=index: inputs.update({index: args[0]})
        )
        layer.attn.qkv.register_forward_hook(
            lambda module, args, output, index=index: inputs.update({f"v{index}": output})
        )
    for index in range(4):
        found = model.attention(noise(), index, at=(40, 60))  # patch (7, 5)
        order = tower.token_layout(16, 11).order
        num_cls = int(tower.cls_token is not None)
        place = num_cls + int((order == 7 * 11 + 5).nonzero())
        values = inputs[f"v{index}"][0, :, 2 * 192 :].unflatten(-1, (3, 64))  # (N, heads, dim)
        weights = torch.from_numpy(found.weights).flatten(1)[:, order]
        weights = torch.cat([torch.from_numpy(found.cls)[:, None]] * num_cls + [weights], 1)
        mixed = torch.einsum("hn,nhd->hd", weights, values).flatten()
        torch.testing.assert_close(mixed, inputs[index][0, place], atol=1e-4, rtol=1e-4)


def test_a_patch_sees_its_window_only(model: Inferencer) -> None:
    tower = model.model.backbone
    if not tower.window_size:
        pytest.skip("every layer is global")
    seen = model.attention(noise(), 0, at=(40, 60)).weights.any(0)
    window = np.zeros((16, 11), bool)
    window[6:9, 3:6] = True
    assert np.array_equal(seen, window)
    assert model.attention(noise(), 1, at=(40, 60)).weights.all()


def test_features_are_those_of_the_tower(model: Inferencer) -> None:
    found = model.features(noise())
    tower = model.model.backbone
    loaded = model.load_one(noise())
    packed = {key: [value] for key, value in loaded.packed.items()}
    with torch.no_grad():
        [expected] = tower(model.model.data_preprocessor(packed, False)["inputs"])
        features = tower.norm(torch.from_numpy(found.features))
    torch.testing.assert_close(features, expected[0].permute(1, 2, 0), atol=1e-4, rtol=1e-4)
    assert not np.allclose(model.features(noise(), 0).features, found.features)


def test_nothing_stays_in_the_model(model: Inferencer) -> None:
    before = model(noise()).to_coco()
    model.attention(noise(), 0)
    model.features(noise(), 0)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.model.modules()
    )
    assert model(noise()).to_coco() == before


def test_pictures(model: Inferencer, tmp_path: Path) -> None:
    image = noise(600, 500)
    attention, features = model.attention(image, at=(100, 200)), model.features(image)
    for found in (attention, features):
        assert found.draw().shape == (600, 500, 3) and found.draw().dtype == np.uint8
        found.save(tmp_path / "map.png")
    assert not np.array_equal(attention.draw(head=0), attention.draw(head=1))
    assert repr(attention) == "AttentionMap(image 1, layer 3)"


def test_padding_is_not_drawn(model: Inferencer) -> None:
    """96 x 40 pixels become 128 x 53, padded to 128 x 56: the grid has a column of padding."""
    found = model.features(noise(96, 40))
    assert found.features.shape[:2] == (16, 7) and found.covered == (16, 53 / 8)


def test_what_cannot_be_shown(model: Inferencer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layer is 4; expected one of the 4 layers"):
        model.attention(noise(), 4)
    with pytest.raises(InputError, match=r"at is \(88, 5\).* image of 88 x 128 pixels"):
        model.attention(noise(), at=(88, 5))
    with pytest.raises(InputError, match="several images; give one"):
        model.features([noise()])
    with pytest.raises(InputError, match="absent.png: No such file"):
        model.features("absent.png")


def test_other_backbones_are_named(color_cfg, color_checkpoint) -> None:
    with pytest.raises(InputError, match="ColorDetector, whose layers are not known"):
        mmbeit3.load(color_cfg, color_checkpoint, device="cpu").attention(noise())
