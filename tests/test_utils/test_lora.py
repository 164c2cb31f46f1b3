from __future__ import annotations

import pytest
import torch

from mmbeit3.models import BEiT3, BEiT3Adapter
from mmbeit3.utils import InputError
from mmbeit3.utils.lora import add_lora, lora_layers, merge_lora, part_lora

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
needs_peft = pytest.mark.usefixtures("peft")


@pytest.fixture(scope="session")
def peft() -> object:
    return pytest.importorskip("peft", reason="needs peft", exc_type=ImportError)


def tower(kind: type = BEiT3, **options: object) -> BEiT3:
    torch.manual_seed(0)
    model = kind(ARCH, img_size=64, lora=dict(rank=3, alpha=5), **options)
    model.init_weights()
    add_lora(model)
    return model


def draw(model: BEiT3) -> None:
    """Matrices as after a training."""
    for _, layer in lora_layers(model):
        torch.nn.init.normal_(layer.lora_B.default.weight, std=0.3)


def of_file(model: BEiT3) -> dict:
    checkpoint = {"state_dict": model.state_dict(), "optimizer": {}}
    merge_lora(model, checkpoint)
    return checkpoint


@needs_peft
@pytest.mark.parametrize("kind", [BEiT3, BEiT3Adapter])
@torch.no_grad()
def test_a_plain_tower_with_the_merged_weights_computes_the_same(kind: type) -> None:
    model, x = tower(kind).eval(), torch.rand(2, 3, 64, 48)
    start = model(x)
    draw(model)
    plain = kind(ARCH, img_size=64).eval()
    plain.load_state_dict(of_file(model)["state_dict"])  # all names, and no other
    for found, expected, before in zip(plain(x), model(x), start, strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()
        assert (expected - before).norm() > 1e-2 * before.norm()


@needs_peft
def test_resuming_brings_weights_and_matrices_back_exactly() -> None:
    model = tower()
    draw(model)
    checkpoint, other = of_file(model), tower()
    draw(other)
    part_lora(other, checkpoint, True, "a.pth")
    other.load_state_dict(checkpoint["state_dict"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@needs_peft
def test_a_plain_file_is_loaded_as_it_is_with_matrices_that_add_nothing() -> None:
    plain, model, x = BEiT3(ARCH, img_size=64).eval(), tower().eval(), torch.rand(1, 3, 64, 64)
    draw(model)
    checkpoint = {"state_dict": plain.state_dict()}
    with pytest.raises(InputError, match="trained without LoRA"):
        part_lora(model, checkpoint, True, "a.pth")
    part_lora(model, checkpoint, False, "a.pth")
    model.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(model(x)[0], plain(x)[0])


@needs_peft
def test_what_is_trained() -> None:
    model = tower(BEiT3Adapter, with_cls_token=False, window_size=2, rel_pos=True, frozen_stages=1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    wide, inner = ARCH["embed_dims"], ARCH["feedforward_channels"]
    sizes = sum(
        p.numel() for name, p in model.named_parameters() if name in trained and "lora_" in name
    )
    # qkv, proj, fc1 and fc2 of three layers: rank * (in + out)
    assert sizes == 3 * 3 * (wide + 3 * wide + 2 * wide + 2 * (wide + inner))
    others = {name for name in trained if "lora_" not in name}
    assert others == {
        n
        for n, _ in model.named_parameters()
        if n.startswith("adapter.") or ".rel_pos." in n
        if not n.startswith("layers.0.")
    }


@pytest.mark.parametrize(
    ("lora", "text"),
    [
        (dict(), "lora.rank is None; expected a positive whole number"),
        (dict(rank=0), "lora.rank is 0"),
        (dict(rank=8, r=4), r"lora has \['r'\]; expected alpha, dropout, rank"),
        (dict(rank=8, dropout=1.0), "dropout in"),
    ],
)
def test_impossible_options_are_refused(lora: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        BEiT3(ARCH, img_size=64, lora=lora)


def test_training_without_the_matrices_is_refused() -> None:
    model = BEiT3(ARCH, img_size=64, lora=dict(rank=2))
    with pytest.raises(InputError, match=r"runner_type='mmbeit3.Runner'"):
        model.train()(torch.rand(1, 3, 64, 64))
    model.eval()(torch.rand(1, 3, 64, 64))
