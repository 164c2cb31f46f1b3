"""Both towers, alone and in pairs, next to torchscale 0.3.0, the published code.

Differences are relative to the largest value of a layer's output.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from functools import partial, partialmethod

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from benchmarks.cases.tower import published_beit3
from mmbeit3.checkpoint import load_backbone, load_weights, official_state_dict, read_tower
from mmbeit3.models import BEiT3, BEiT3Multiway, BEiT3Text
from mmbeit3.models.acceleration import accelerate
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import ARCH_ZOO, resolve_arch
from mmbeit3.utils.towers import find_layers

TOLERANCE = 1e-5
SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
# arch, image size, patch size, vocabulary
SIZES = [
    (SMALL, 32, 8, 50),
    (dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=160), 48, 16, 33),
    ("tiny", 64, 16, 300),
    pytest.param(("base", 224, 16, 64010), marks=pytest.mark.slow),
]
SIZES = pytest.mark.parametrize("size", SIZES, ids=["small", "wide heads", "tiny", "base"])
LENGTHS = torch.tensor([9, 4, 1])


def multiway(arch: str | dict = SMALL, img_size: int = 32, patch: int = 8, words: int = 50, **more):
    return randomize(BEiT3Multiway(arch, img_size, patch, vocab_size=words, **more)).eval()


def randomize(model: nn.Module) -> nn.Module:
    """Draw every weight anew: zeros and ones as after construction would hide mistakes."""
    torch.manual_seed(0)
    for param in model.parameters():
        std = 1.4 * model.embed_dims**-0.5
        nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=std)
    return model


def official(model: BEiT3Multiway) -> dict[str, Tensor]:
    towers = {"A": model.vision, "B": model.text}
    state = {}
    for branch, tower in towers.items():
        state |= official_state_dict(tower.state_dict(), branch)
    return state


def published(model: BEiT3Multiway, size: tuple) -> nn.Module:
    """torchscale's model with the weights of ours."""
    pytest.importorskip(
        "torchscale", reason="needs torchscale: pip install --no-deps torchscale==0.3.0"
    )
    arch, img_size, patch, words = size
    theirs = published_beit3(resolve_arch(arch), img_size, patch, words, True)
    theirs.load_state_dict({n.removeprefix("beit3."): v for n, v in official(model).items()})
    return theirs.eval()


def inputs(size: tuple, length: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Images, ids and a padding mask."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, size[1], size[1], generator=generator)
    ids = torch.randint(0, size[3], (3, length), generator=generator)
    return images, ids, torch.arange(length) >= LENGTHS[:, None]


def all_layers(model: BEiT3Multiway, run: Callable[[], object], joint: bool) -> list[Tensor]:
    """What every layer adds up to, by the input of the next one's first LN and the final LN."""
    found: dict[str, list[Tensor]] = {"vision": [], "text": []}
    hooks = []
    for name, kept in found.items():
        tower = getattr(model, name)
        for norm in [*(layer.norm1 for layer in tower.layers[1:]), tower.norm]:
            hooks.append(norm.register_forward_pre_hook(lambda _, x, kept=kept: kept.append(x[0])))
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    if joint:
        return [torch.cat(parts, 1) for parts in zip(*found.values(), strict=True)]
    return found["vision"] or found["text"]


def their_layers(theirs: nn.Module, **given: Tensor | None) -> tuple[list[Tensor], Tensor]:
    found: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, args, out: found.append(out[0]))
        for layer in theirs.encoder.layers
    ]
    with torch.no_grad():
        last = theirs(**given)["encoder_out"]
    for hook in hooks:
        hook.remove()
    return found, last


def difference(found: list[Tensor], want: list[Tensor], kept: Tensor | None = None) -> float:
    worst = 0.0
    for one, two in zip(found, want, strict=True):
        assert one.shape == two.shape
        if kept is not None:
            one, two = one[kept], two[kept]
        worst = max(worst, ((one - two).abs().max() / two.abs().max()).item())
    print(f"largest relative difference of {len(want)} outputs: {worst:.2e}")
    return worst


@SIZES
def test_images_and_texts_alone_equal_torchscales(size: tuple) -> None:
    model = multiway(*size)
    theirs = published(model, size)
    images, ids, padding = inputs(size)
    layers, last = their_layers(theirs, visual_tokens=images)
    found = []
    ours = all_layers(model, lambda: found.append(model.encode_image(images)), False)
    assert difference([*ours, *found], [*layers, last]) < TOLERANCE
    for mask in (None, padding):
        layers, last = their_layers(theirs, textual_tokens=ids, text_padding_position=mask)
        found = []
        ours = all_layers(model, lambda m=mask: found.append(model.encode_text(ids, m)), False)  # noqa: B023
        kept = None if mask is None else ~mask
        assert difference([*ours, *found], [*layers, last], kept) < TOLERANCE


@SIZES
@pytest.mark.parametrize("masks", ["none", "padding", "caption", "both"])
def test_pairs_equal_torchscales(size: tuple, masks: str) -> None:
    model = multiway(*size)
    theirs = published(model, size)
    images, ids, padding = inputs(size)
    split = (size[1] // size[2]) ** 2 + 1
    total = split + ids.shape[1]
    padding = padding if masks in ("padding", "both") else None
    forbidden = None
    if masks in ("caption", "both"):  # the image sees itself, a word what comes before it
        forbidden = torch.ones(total, total).triu(1).long()
        forbidden[:split, :split] = 0
    layers, last = their_layers(
        theirs,
        textual_tokens=ids,
        visual_tokens=images,
        text_padding_position=padding,
        attn_mask=forbidden,
    )
    found = []

    def run() -> None:
        found.append(torch.cat(model.encode_pair(images, ids, padding, forbidden), 1))

    ours = all_layers(model, run, True)
    kept = torch.ones(3, total, dtype=torch.bool)
    if padding is not None:
        kept[:, split:] = ~padding
    assert difference([*ours, *found], [*layers, last], kept) < TOLERANCE
    if forbidden is not None and padding is None:  # the image did not see the text
        assert difference([found[0][:, :split]], [model.encode_image(images)]) < TOLERANCE


@SIZES
@torch.no_grad()
def test_the_image_half_is_the_detection_tower_bit_for_bit(size: tuple) -> None:
    model = multiway(*size)
    arch, img_size, patch, _ = size
    options = dict(window_size=0, with_cls_token=True, final_norm=True)
    tower = BEiT3(arch, img_size, patch, **options).eval()
    tower.load_state_dict(model.vision.state_dict())
    for shape in ((img_size, img_size), (img_size // 2, 2 * img_size)):
        images = torch.randn(2, 3, *shape)
        feature_map, cls = tower.encode(images)
        tokens = model.encode_image(images)
        assert torch.equal(tokens[:, 0], cls)
        assert torch.equal(tokens[:, 1:], feature_map.flatten(2).transpose(1, 2))
        image, _ = model.encode_pair(images, torch.ones(2, 3).long())
        assert image.shape == tokens.shape


@pytest.mark.parametrize("options", [{}, dict(attention="shared", vl_layers=2)])
@torch.no_grad()
def test_padding_is_never_seen(options: dict) -> None:
    model = multiway(**options)
    images, ids, padding = inputs((SMALL, 32, 8, 50))
    text = model.encode_text(ids, padding)
    image, words = model.encode_pair(images, ids, padding)
    other = torch.where(padding, (ids + 7) % 50, ids)
    assert torch.equal(model.encode_text(other, padding), text)
    assert torch.equal(model.encode_pair(images, other, padding)[0], image)
    wider = nn.functional.pad(padding.long(), (0, 5), value=1)  # no bool, and more of it
    more = model.encode_text(nn.functional.pad(ids, (0, 5)), wider)
    assert more.shape == (3, 14, 48) and torch.equal(more[:, :9][~padding], text[~padding])
    for index, length in enumerate(LENGTHS):
        one, cut = slice(index, index + 1), slice(0, length)
        alone = model.encode_text(ids[one, cut])
        assert difference([text[one, cut]], [alone]) < TOLERANCE
        pair = model.encode_pair(images[one], ids[one, cut])
        assert difference([image[one], words[one, cut]], list(pair)) < TOLERANCE


@torch.no_grad()
def test_a_pair_whose_text_is_all_padding_is_the_image_alone() -> None:
    model = multiway()
    images, ids, _ = inputs((SMALL, 32, 8, 50))
    image, text = model.encode_pair(images, ids, torch.ones_like(ids))
    assert difference([image], [model.encode_image(images)]) < TOLERANCE
    assert text.isfinite().all()


def test_inputs_that_cannot_be_are_named() -> None:
    model = multiway(max_tokens=10)
    images, ids, padding = inputs((SMALL, 32, 8, 50))
    padding[1] = True
    with pytest.raises(InputError, match="text 1 of 3 is all padding"):
        model.encode_text(ids, padding)
    with pytest.raises(InputError, match="have 11 tokens and the model 10 positions"):
        model.encode_text(torch.ones(2, 11).long())
    with pytest.raises(InputError, match=r"shape \(3, 9\) and padding_mask \(3, 8\)"):
        model.encode_text(ids, padding[:, 1:])
    with pytest.raises(InputError, match="there are 2 images and 3 texts"):
        model.encode_pair(images[:2], ids)
    with pytest.raises(InputError, match=r"shape \(9, 9\); expected \(26, 26\), 17 tokens of"):
        model.encode_pair(images, ids, attention_mask=torch.ones(9, 9))
    for wrong in (dict(attention="joint"), dict(vl_layers=4)):
        with pytest.raises(InputError, match=next(iter(wrong))):
            BEiT3Multiway(SMALL, **wrong)


def test_experts_share_nothing() -> None:
    model = multiway()
    images, ids, padding = inputs((SMALL, 32, 8, 50))
    for run, name in (
        (lambda: model.encode_image(images), "vision"),
        (lambda: model.encode_text(ids, padding), "text"),
    ):
        model.zero_grad()
        run().square().sum().backward()
        got = {key for key, param in model.named_parameters() if param.grad is not None}
        want = {key for key, _ in model.named_parameters() if key.startswith(name)}
        assert got == want
    model.zero_grad()
    model.encode_pair(images, ids, padding)[0][:, 0].sum().backward()
    layer = model.text.layers[0]  # a word reaches the image by the joint softmax
    assert layer.attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("with_cp", [True, "offload"])
@torch.no_grad()
def test_recomputed_layers_give_the_same_gradients(with_cp: bool | str) -> None:
    images, ids, padding = inputs((SMALL, 32, 8, 50))
    grads = []
    for value in (False, with_cp):
        model = multiway(with_cp=value, vl_layers=1).train()
        with torch.enable_grad():
            image, words = model.encode_pair(images, ids, padding)
            (image.square().sum() + words[~padding].square().sum()).backward()
            model.encode_text(ids, padding)[:, 0].square().sum().backward()
        grads.append({name: param.grad for name, param in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-4, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    "backend",
    [
        "eager",  # what is traced, and how often
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
            ],
        ),
    ],
)
@torch.no_grad()
def test_pairs_run_compiled_layers(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = multiway()
    pairs = [inputs((SMALL, size, 8, 50), length) for size, length in ((32, 9), (48, 12))]
    expected = [torch.cat(model.encode_pair(*pair), 1) for pair in pairs]
    accelerate(model, "float32", compile=True)
    counters.clear()
    for pair, want in zip(pairs, expected, strict=True):
        found = torch.cat(model.encode_pair(*pair), 1)
        assert difference([found], [want]) < TOLERANCE
        assert counters["stats"]["unique_graphs"] == 1  # for all layers and sizes


def test_a_branch_is_dropped_for_the_whole_pair() -> None:
    model = multiway(drop_path_rate=0.999).train()
    images, ids, _ = inputs((SMALL, 32, 8, 50))
    inside = []
    for tower in (model.vision, model.text):
        tower.norm.register_forward_pre_hook(lambda _, x: inside.append(x[0]))
        tower.layers[-1].norm2.register_forward_pre_hook(lambda _, x: inside.append(x[0]))
    for seed in range(20):
        torch.manual_seed(seed)
        inside.clear()
        with torch.no_grad():
            model.encode_pair(images, ids)
        image_in, words_in, image, words = inside
        dropped = [(one == two).flatten(1).all(1) for one, two in
                   ((image_in, image), (words_in, words))]  # fmt: skip
        assert torch.equal(*dropped)


# With two heads and a scale these are the 222M and 674M of the README of microsoft/unilm beit3.
@pytest.mark.parametrize(("arch", "want"), [("base", 220_987_392), ("large", 672_702_464)])
def test_weights_are_as_many_as_released(arch: str, want: int) -> None:
    with torch.device("meta"):
        state = official(BEiT3Multiway(arch))
    assert sum(value.numel() for value in state.values()) == want
    assert len(state) == {"base": 491, "large": 971}[arch]


def test_the_papers_giant_has_its_parts() -> None:
    with torch.device("meta"):
        model = BEiT3Multiway("giant", patch_size=14, attention="shared", vl_layers=3)
    size = ARCH_ZOO["giant"]
    width, hidden = size["embed_dims"], size["feedforward_channels"]
    # Table 2 of the paper: 692M, 692M, 52M, 317M; the sub-LNs, which it does not have, taken off
    ffn = sum(p.numel() for n, p in model.vision.named_parameters() if ".ffn.f" in n)
    words = sum(p.numel() for n, p in model.text.named_parameters() if ".ffn.f" in n)
    both = sum(p.numel() for n, p in model.vl_layers.named_parameters() if "ffn.f" in n)
    attention = sum(p.numel() for n, p in model.named_parameters() if n.endswith(
        ("attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias")))  # fmt: skip
    assert ffn == words == 40 * (2 * width * hidden + width + hidden)
    millions = [round(count / 1e6) for count in (ffn, words, both, attention)]
    assert millions == [692, 692, 52, 317]
    assert 1.8e9 < sum(p.numel() for p in model.parameters()) < 1.95e9


def test_shared_attention_is_one_and_starts_alike() -> None:
    model = BEiT3Multiway(SMALL, 32, 8, vocab_size=50, attention="shared", vl_layers=2)
    model.init_weights()
    names = [name for name, _ in model.named_parameters()]
    assert not any(name.startswith("text.") and ".attn." in name for name in names)
    layer, fusion = model.vision.layers[1], model.vl_layers[0]
    assert torch.equal(fusion.ffn.fc1.weight, layer.ffn.fc1.weight)
    assert fusion.ffn.fc1.weight is not layer.ffn.fc1.weight
    depth = (2 * 2) ** -0.5  # once for each tower would divide twice
    std = 0.02 * (768 / layer.attn.proj.out_features) ** 0.5
    assert 0.5 < layer.attn.proj.weight.std() / (std * depth) < 1.5
    twin = copy.deepcopy(model)
    assert twin.text.layers[0].attn is twin.vision.layers[0].attn


def test_weights_travel_between_models_and_official_files(tmp_path) -> None:
    model = multiway()
    path = tmp_path / "beit3_tiny_itc.pth"
    torch.save({"model": official(model)}, path)
    init_cfg = dict(type="Pretrained", checkpoint=str(path))
    config = dict(
        arch=SMALL, img_size=32, patch_size=8, vocab_size=50, max_tokens=64, init_cfg=init_cfg
    )
    built = MODELS.build(dict(type="mmbeit3.BEiT3Multiway", **config))
    built.init_weights()
    assert torch.equal(built.text.pos_embed, model.text.pos_embed[:, :64])
    text = MODELS.build(dict(type="mmbeit3.BEiT3Text", arch=SMALL, vocab_size=50))
    load_backbone(text, str(path))
    for name, value in model.text.state_dict().items():
        assert torch.equal(text.state_dict()[name], value)
    images, ids, padding = inputs((SMALL, 32, 8, 50))
    with torch.no_grad():
        assert torch.equal(built.encode_image(images), model.encode_image(images))
        assert torch.equal(text(ids, padding), model.encode_text(ids, padding))
    for wrong, match in ((dict(vocab_size=60), "text_embed.weight"), (dict(arch="tiny"), "layers")):
        with pytest.raises(InputError, match=match):
            load_backbone(BEiT3Text(**dict(arch=SMALL, vocab_size=50) | wrong), str(path))


class Around(nn.Module):
    """A retrieval model and a detector, as far as names go."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(2, 2)


@pytest.mark.parametrize("wrap", [lambda model: model, Around], ids=["alone", "in a model"])
def test_a_retrieval_checkpoint_starts_a_detector_and_back(wrap) -> None:
    model = wrap(multiway())
    towers = getattr(model, "backbone", model)
    state = dict(model.state_dict())
    detector = Around(BEiT3(SMALL, 64, 8, window_size=4))
    report = load_weights(detector, state, strict=False)
    assert set(report.missing) == {"head.weight", "head.bias"}
    for index, layer in enumerate(detector.backbone.layers):
        assert torch.equal(layer.attn.qkv.weight, towers.vision.layers[index].attn.qkv.weight)
    load_backbone(BEiT3Text(SMALL, 50), state)
    vision = read_tower(state)
    assert all(torch.equal(v, vision.weights[n]) for n, v in towers.vision.state_dict().items())
    # there and back: the same model, strictly, and official files into both towers
    other = wrap(BEiT3Multiway(SMALL, 32, 8, vocab_size=50))
    load_weights(other, state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())
    other = wrap(BEiT3Multiway(SMALL, 32, 8, vocab_size=50))
    load_weights(other, official(towers), strict=False)
    found = getattr(other, "backbone", other).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in towers.state_dict().items())
    tower = Around(BEiT3(SMALL, 32, 8, window_size=0, with_cls_token=True, final_norm=True))
    report = load_weights(other, randomize_all(tower).state_dict(), strict=False)
    assert torch.equal(getattr(other, "backbone", other).vision.pos_embed, tower.backbone.pos_embed)
    assert any("text" in name for name in report.missing)
    with pytest.raises(InputError):
        load_weights(detector, state)


def randomize_all(model: nn.Module) -> nn.Module:
    randomize(model.backbone)
    return model


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_every_parameter_has_a_depth(prefix: str) -> None:
    model = BEiT3Multiway(SMALL, 32, 8, vocab_size=50, vl_layers=2)
    for name, _ in model.named_parameters():
        parts = name.split(".")
        want = 4 if parts[1] == "norm" else 0
        want = int(parts[2]) + 1 if parts[1] == "layers" else want
        want = int(parts[1]) + 2 if parts[0] == "vl_layers" else want
        assert model.get_layer_depth(prefix + name, prefix) == (want, 5), name
    assert len(find_layers(model)) == len(model.repeated_layers) == 6
    with pytest.raises(InputError, match="parameter x.table lies"):
        BEiT3Text(SMALL, 50).get_layer_depth("x.table", "x.")


@pytest.mark.parametrize("wrap", [lambda model: model, Around], ids=["alone", "in a model"])
def test_a_refused_text_half_leaves_the_vision_half_as_it_was(wrap) -> None:
    state = official(multiway())
    model = wrap(BEiT3Multiway(SMALL, 32, 8, vocab_size=60))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match="text_embed.weight"):
        load_weights(model, state, strict=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@SIZES
@torch.no_grad()
def test_the_image_of_a_caption_is_the_image_alone_bit_for_bit(size: tuple) -> None:
    model = multiway(*size)
    images, ids, padding = inputs(size)
    for batch in (images, images.repeat(1, 1, 1, 2)[..., : 2 * size[2]]):
        image, words = model.encode_pair(batch, ids, padding, causal=True)
        assert torch.equal(image, model.encode_image(batch))
        for place in (2, 5, 8):  # what a word is changes nothing before it
            other = ids.clone()
            other[:, place] = (ids[:, place] + 1) % size[3]
            again = model.encode_pair(batch, other, padding, causal=True)
            assert torch.equal(again[0], image)
            assert torch.equal(again[1][:, :place], words[:, :place])
            assert not torch.equal(again[1][0, place:], words[0, place:])


@SIZES
@torch.no_grad()
def test_pairs_for_captions_equal_torchscales(size: tuple) -> None:
    model = multiway(*size)
    theirs = published(model, size)
    images, ids, padding = inputs(size)
    split = (size[1] // size[2]) ** 2 + 1
    forbidden = torch.ones(split + 9, split + 9).triu(1).long()
    forbidden[:split, :split] = 0
    for mask in (None, padding):
        options = dict(text_padding_position=mask, attn_mask=forbidden)
        layers, last = their_layers(theirs, textual_tokens=ids, visual_tokens=images, **options)
        found = []

        def run(mask=mask, found=found) -> None:
            found.append(torch.cat(model.encode_pair(images, ids, mask, causal=True), 1))

        ours = all_layers(model, run, True)
        kept = torch.ones(3, split + 9, dtype=torch.bool)
        if mask is not None:
            kept[:, split:] = ~mask
        assert difference([*ours, *found], [*layers, last], kept) < TOLERANCE
    with pytest.raises(InputError, match="attention_mask is given and causal is True"):
        model.encode_pair(images, ids, attention_mask=forbidden, causal=True)
