"""The backbone: windows, positions, sizes, options, errors.

Its arithmetic is compared with the published one in tests/test_checkpoint/test_equivalence.py.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmbeit3.models import BEiT3
from mmbeit3.utils import InputError

SMALL = dict(embed_dims=48, num_layers=4, num_heads=4, feedforward_channels=96)


def small(**options) -> BEiT3:
    torch.manual_seed(0)
    sizes = dict(arch=SMALL, img_size=64, patch_size=8, window_size=4, global_attn_indexes=(3,))
    model = BEiT3(**sizes | options)
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize(
    ("arch", "count"),
    # microsoft/unilm beit3: vision tower with embeddings, without mask token and final LN
    [("base", 85_893_120), ("large", 303_550_464), ("giant", 1_011_810_816)],
)
def test_parameter_counts_are_the_published(arch: str, count: int) -> None:
    patch_size, img_size = (14, 224) if arch == "giant" else (16, 224)
    with torch.device("meta"):
        model = BEiT3(
            arch, img_size, patch_size, window_size=0, with_cls_token=True, final_norm=True
        )
    # The published towers hold a mask token (C) and two unused rows of positions (2 C) besides.
    unused = 3 * model.embed_dims
    assert sum(param.numel() for param in model.parameters()) + unused == count


@pytest.mark.parametrize("with_cls_token", [False, True])
def test_positions_start_as_sinusoids(with_cls_token: bool) -> None:
    options = dict(img_size=(64, 32), window_size=0, with_cls_token=with_cls_token)
    table = small(**options).pos_embed[0, with_cls_token:].unflatten(0, (8, 4))
    for row, column, wave in ((0, 0, 0), (7, 2, 0), (3, 1, 5), (6, 3, 11)):
        frequency = 100 ** (-wave / 12)
        angles = (row * frequency, column * frequency)
        want = [0.5 * f(angle) for f in (math.sin, math.cos) for angle in angles]
        assert table[row, column, wave::12].tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (72, 40), (61, 35), (8, 8), (3, 200)])
def test_any_size(size: tuple[int, int]) -> None:
    (out,) = small()(torch.randn(2, 3, *size))
    assert out.shape == (2, 48, -(-size[0] // 8), -(-size[1] // 8))
    assert out.isfinite().all()


def test_images_are_padded_right_and_bottom_to_patches() -> None:
    model, x = small(), torch.randn(1, 3, 61, 35)
    torch.testing.assert_close(model(x)[0], model(F.pad(x, (0, 5, 0, 3)))[0])


def test_one_window_over_all_is_global_attention() -> None:
    windowed, everywhere = small(window_size=8), small(window_size=0)
    everywhere.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(windowed(x)[0], everywhere(x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (72, 56)])
def test_window_layers_never_mix_windows(size: tuple[int, int]) -> None:
    model = small(global_attn_indexes=())
    x = torch.randn(1, 3, *size)
    changed = x.clone()
    changed[..., 33, 33] += 1  # token (4, 4): the window of rows 4..7 and columns 4..7
    moved = (model(x)[0] - model(changed)[0]).abs().amax((0, 1)) > 0
    inside = torch.zeros_like(moved)
    inside[4:8, 4:8] = True
    assert torch.equal(moved, inside)


def test_global_layers_are_evenly_spaced() -> None:
    with torch.device("meta"):
        assert BEiT3("base").global_attn_indexes == {2, 5, 8, 11}
        assert BEiT3("large").global_attn_indexes == {5, 11, 17, 23}


@pytest.mark.parametrize("window_size", [0, 4])
def test_layers_get_tokens_in_one_piece(window_size: int) -> None:
    tower = small(window_size=window_size)
    assert tower.embed(torch.randn(2, 3, 64, 48))[0].is_contiguous()  # or each norm copies them


def test_batch_members_do_not_touch() -> None:
    model, x = small(), torch.randn(3, 3, 72, 56)
    torch.testing.assert_close(model(x)[0][1:2], model(x[1:2])[0], rtol=1e-5, atol=1e-5)


def test_positions_are_kept_per_size_and_follow_the_weights() -> None:
    model, x = small(), torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        first = model(x)[0]
        kept = model._patch_positions(12, 8)
        assert model._patch_positions(12, 8) is kept
        model.pos_embed.mul_(2)
        doubled = model(x)[0]
        assert not torch.equal(doubled, first)
        model.pos_embed.data.div_(2)  # as an EMA hook swaps weights: no version is counted
        model.eval()
        torch.testing.assert_close(model(x)[0], first)


def test_positions_at_the_native_size_are_the_table() -> None:
    model = small()
    torch.testing.assert_close(model._patch_positions(8, 8), model.pos_embed)


@pytest.mark.parametrize("tokens", [(4, 4), (8, 12), (6, 7), (3, 9)])
def test_tiled_positions_are_those_of_pretraining_in_every_window(tokens: tuple[int, int]) -> None:
    model = small(img_size=32, tile_positions=True)
    positions = model._patch_positions(*tokens).unflatten(1, tokens)
    table = model.pos_embed.unflatten(1, (4, 4))
    for top in range(0, tokens[0], 4):
        for left in range(0, tokens[1], 4):
            window = positions[:, top : top + 4, left : left + 4]
            assert torch.equal(window, table[:, : window.shape[1], : window.shape[2]])


@pytest.mark.parametrize("training", [False, True])
def test_tiled_positions_make_equal_windows_equal(training: bool) -> None:
    options = dict(img_size=32, global_attn_indexes=())
    tiled, resized = (small(**options, tile_positions=on).train(training) for on in (True, False))
    window = torch.randn(1, 3, 32, 32)
    image = window.tile(2, 3)
    torch.testing.assert_close(tiled(image)[0], tiled(window)[0].tile(2, 3))
    assert (resized(image)[0] - resized(window)[0].tile(2, 3)).abs().max() > 0.01
    # An image of one window has the positions of pretraining either way.
    torch.testing.assert_close(tiled(window)[0], resized(window)[0])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_checkpointing_changes_no_gradient(bfloat16: bool) -> None:
    x = torch.randn(2, 3, 72, 56)
    grads = []
    for with_cp in (False, True, "offload"):
        # Drop path must be drawn alike when a layer is computed again.
        model = small(with_cp=with_cp, rel_pos=True, drop_path_rate=0.5).train()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(x)[0].square().mean()
        loss.backward()
        assert all(param.grad is not None for param in model.parameters())
        grads.append([param.grad for param in model.parameters()])
    for without, *others in zip(*grads, strict=True):
        for other in others:
            torch.testing.assert_close(other, without)


def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    def kept(with_cp: bool | str) -> int:
        sizes = []
        model = small(with_cp=with_cp).train()
        pack = lambda tensor: (sizes.append(tensor.numel()), tensor)[1]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(torch.randn(1, 3, 64, 64))
        return sum(sizes)

    without = kept(False)
    assert kept(True) < without / 3 and kept("offload") < without / 3


def test_a_copy_of_an_offloading_model_runs_its_own_weights() -> None:
    model = small(with_cp="offload").train()
    x = torch.randn(1, 3, 64, 64)
    model(x)
    copied = copy.deepcopy(model)
    for param in copied.parameters():
        param.data.mul_(1.5)
    assert (copied(x)[0] - model(x)[0]).abs().max() > 0.1


def test_drop_path_grows_linearly_and_acts_in_training_only() -> None:
    model = small(drop_path_rate=0.3)
    rates = [getattr(layer.drop_path, "drop_prob", 0.0) for layer in model.layers]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    x = torch.randn(4, 3, 64, 64)
    assert torch.equal(model(x)[0], model(x)[0])
    model.train()
    assert not torch.equal(model(x)[0], model(x)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(arch="huge"), "'huge'.*'base'"),
        (dict(with_cp="cpu"), "with_cp is 'cpu'; expected False, True or 'offload'"),
        (dict(arch=dict(embed_dims=8)), "embed_dims.*num_layers"),
        (dict(arch=dict(SMALL, num_heads=5)), "48 cannot be shared among 5 heads"),
        (dict(img_size=60), "60 x 60 and patch_size 8.*64 x 64"),
        (dict(patch_size=0), "patch_size is 0"),
        (dict(window_size=-1), "window_size is -1"),
        (dict(global_attn_indexes=[4]), r"\[4\].*0 to 3"),
        (dict(with_cls_token=True), "in all 4 layers"),
        (dict(with_cls_token=True, window_size=0, rel_pos=True), "rel_pos=False or with_cls_token"),
        (dict(tile_positions=True), "window, 4 x 4 tokens, but img_size makes it 8 x 8; .*=32"),
        (dict(tile_positions=True, img_size=(32, 64)), "4 x 4 tokens, .* 4 x 8; set img_size=32"),
        (dict(tile_positions=True, window_size=0), "needs windows .* window_size is 0"),
    ],
)
def test_sizes_that_cannot_work_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        small(**options)


@pytest.mark.parametrize(("channels", "std"), [(192, 0.04), (768, 0.02), (1024, 0.02)])
def test_branches_start_smaller_with_depth_and_larger_in_narrow_towers(
    channels: int, std: float
) -> None:
    model = small(arch=dict(SMALL, embed_dims=channels, num_heads=4))
    for depth, layer in enumerate(model.layers, 1):
        want = std / (2 * depth) ** 0.5
        assert layer.attn.proj.weight.std().item() == pytest.approx(want, rel=0.05)
        assert layer.ffn.fc2.weight.std().item() == pytest.approx(want, rel=0.05)
        assert layer.attn.qkv.weight.std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_pretrained_weights_are_all_loaded_or_refused(tmp_path: Path, prefix: str) -> None:
    source = small()
    state = {prefix + name: value + 1 for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / "weights.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "weights.pth"))
    for name, value in small(init_cfg=init_cfg).state_dict().items():
        assert torch.equal(value, state[prefix + name])

    del state[prefix + "layers.2.ffn.fc1.weight"]
    torch.save(dict(state_dict=state), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"layers\.2\.ffn\.fc1\.weight"):
        small(init_cfg=init_cfg)
