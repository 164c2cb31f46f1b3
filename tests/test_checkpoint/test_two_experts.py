"""Both towers of an official file, and a layer over both put together from the parts of ours."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.checkpoint import find_layout, official_state_dict, read_tower
from mmbeit3.models.layers import EncoderLayer
from mmbeit3.utils import InputError

from .official import KINDS, SMALL, Size, is_text, official_weights, torchscale_beit3

SIZES = pytest.mark.parametrize(
    ("size", "img_size"),
    [(SMALL, 48), (Size(64, 3, 2, 160, patch=16, vocabulary=20), 64)],
    ids=["small", "wide heads"],
)


class JointLayer(nn.Module):
    """The multiway layer: everything once for each expert, and one softmax over all tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            EncoderLayer(size.width, size.heads, size.hidden) for _ in "AB"
        )

    def forward(self, inputs: list[Tensor], mask: Tensor | None = None) -> list[Tensor]:
        experts = self.experts
        projected = [e.attn.project(e.norm1(x)) for e, x in zip(experts, inputs, strict=True)]
        q, k, v = (torch.cat(parts, 2) for parts in zip(*projected, strict=True))
        attended = experts[0].attn.attend(q, k, v, mask).split([x.shape[1] for x in inputs], 1)
        outputs = []
        for expert, x, part in zip(experts, inputs, attended, strict=True):
            x = x + expert.drop_path(expert.attn.output(part))
            outputs.append(x + expert.drop_path(expert.ffn(expert.norm2(x))))
        return outputs


def joint_layers(weights: dict[str, Tensor], size: Size) -> list[JointLayer]:
    layers = [JointLayer(size).eval() for _ in range(size.depth)]
    for expert, branch in enumerate("AB"):
        tower = read_tower(weights, branch=branch).weights
        for index, layer in enumerate(layers):
            start = f"layers.{index}."
            own = {n.removeprefix(start): v for n, v in tower.items() if n.startswith(start)}
            layer.experts[expert].load_state_dict(own)
    return layers


@SIZES
@pytest.mark.parametrize("masks", ["none", "padding", "caption"])
@torch.no_grad()
def test_a_joint_layer_of_our_parts_equals_torchscales(
    size: Size, img_size: int, masks: str
) -> None:
    weights = official_weights("pretrained", size, img_size)
    theirs = torchscale_beit3(size, img_size)
    core = {n.removeprefix("beit3."): v for n, v in weights.items() if n.startswith("beit3.")}
    theirs.load_state_dict({name: value.float() for name, value in core.items()})
    inputs, outputs = [], []
    for layer in theirs.encoder.layers:
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        layer.register_forward_hook(lambda _, args, out: outputs.append(out[0]))
    images, ids = torch.randn(3, 3, img_size, img_size), torch.randint(0, size.vocabulary, (3, 7))
    vision = (img_size // size.patch) ** 2 + 1
    total = vision + ids.shape[1]
    padding, forbidden, keep = None, None, None
    if masks == "padding":
        padding = torch.arange(7) >= torch.tensor([[7], [4], [2]])
        keep = torch.cat([torch.ones(3, vision, dtype=torch.bool), ~padding], 1)[:, None, None]
    if masks == "caption":  # the image sees itself, a word what comes before it
        keep = torch.ones(total, total, dtype=torch.bool).tril()
        keep[:vision, :vision] = True
        forbidden = (~keep).long()
    theirs(ids, images, padding, forbidden)
    for layer, x, want in zip(joint_layers(weights, size), inputs, outputs, strict=True):
        found = torch.cat(layer([x[:, :vision], x[:, vision:]], keep), 1)
        if padding is not None:  # what a padding token computes is read by none
            found, want = (out[keep[:, 0, 0]] for out in (found, want))
        assert (found - want).abs().max() < 2e-6 * want.abs().max()


@SIZES
@torch.no_grad()
def test_the_text_tower_alone_equals_torchscales(size: Size, img_size: int) -> None:
    weights = official_weights("pretrained", size, img_size)
    theirs = torchscale_beit3(size, img_size)
    core = {n.removeprefix("beit3."): v for n, v in weights.items() if n.startswith("beit3.")}
    theirs.load_state_dict({name: value.float() for name, value in core.items()})
    ids = torch.randint(0, size.vocabulary, (2, 9))
    tower = {n: v.float() for n, v in read_tower(weights, branch="B").weights.items()}
    x = tower["text_embed.weight"][ids] + tower["pos_embed"][:, :9]
    for layer in joint_layers(weights, size):
        x = layer.experts[1](x, ((1, 9),))
    norm = partial(nn.functional.layer_norm, normalized_shape=(size.width,))
    x = norm(x, weight=tower["norm.weight"], bias=tower["norm.bias"])
    want = theirs(textual_tokens=ids)["encoder_out"]
    assert (x - want).abs().max() < 2e-6 * want.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_branch_is_read_and_written_back_bit_for_bit(kind: str) -> None:
    weights = official_weights(kind)
    tower = read_tower(weights, branch="B")
    text = {name: value for name, value in weights.items() if is_text(name)}
    back = official_state_dict(tower.weights, "B")
    assert back.keys() == text.keys()
    assert all(torch.equal(back[name], value) for name, value in text.items())
    core = [name for name in weights if name.startswith("beit3.")]
    assert len(tower.unused["vision branch"]) == len(core) - len(text)
    both = official_state_dict(read_tower(weights).weights) | back
    assert both.keys() == set(core) and find_layout(both) == "official"


def test_a_file_without_text_has_no_text_tower() -> None:
    weights = official_weights("pretrained")
    vision = {name: value for name, value in weights.items() if not is_text(name)}
    with pytest.raises(InputError, match="cut.pth lacks .* of BEiT-3's text tower: .*positions.B"):
        read_tower(vision, "cut.pth", "B")
    timm = {"blocks.0.attn.norm.weight": torch.ones(3)}
    with pytest.raises(InputError, match="timm.pth holds no BEiT-3 text tower"):
        read_tower(timm, "timm.pth", "B")
