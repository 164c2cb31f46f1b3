"""VQA and NLVR2: equal to the published code, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from benchmarks.cases.tower import published_beit3
from mmbeit3.checkpoint import from_official, load_task, load_weights, to_official
from mmbeit3.models import BEiT3NLVR2, BEiT3VQA
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError
from mmbeit3.utils.archs import resolve_arch

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
WIDE = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=160)
# arch, image size, patch size, vocabulary
SIZES = [(ARCH, 32, 8, 50), (WIDE, 48, 16, 33), ("tiny", 64, 16, 300)]
KINDS = pytest.mark.parametrize("kind", [BEiT3VQA, BEiT3NLVR2])
LENGTHS = torch.tensor([9, 4, 6])
ANSWERS = 11


def encoder(size: tuple, kind: type = BEiT3VQA, **more: object) -> dict:
    arch, img_size, patch, words = size
    own = dict(type="mmbeit3.BEiT3Multiway", arch=arch, img_size=img_size, patch_size=patch)
    return own | dict(vocab_size=words, final_norm=kind is BEiT3NLVR2) | more


def fusion(kind: type, size: tuple = SIZES[0], answers: int = ANSWERS, **more: object):
    options = dict(num_classes=answers) if kind is BEiT3VQA else {}
    model = kind(encoder(size, kind), **options, **more)
    torch.manual_seed(0)
    for param in model.parameters():
        std = 1.4 * model.encoder.embed_dims**-0.5
        nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=std)
    return model.eval()


def inputs(kind: type, size: tuple, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Images, ids and a padding mask."""
    generator = torch.Generator().manual_seed(1)
    own = (2,) if kind is BEiT3NLVR2 else ()
    images = torch.randn(batch, *own, 3, size[1], size[1], generator=generator)
    ids = torch.randint(4, size[3], (batch, 9), generator=generator)
    return images, ids, torch.arange(9) >= LENGTHS.repeat(batch)[:batch, None]


class PublishedVQA(nn.Module):
    """Written from the facts of microsoft/unilm beit3, on torchscale's encoder."""

    def __init__(self, beit3: nn.Module, width: int) -> None:
        super().__init__()
        self.beit3 = beit3
        self.pooler = nn.ModuleDict(dict(norm=nn.LayerNorm(width), dense=nn.Linear(width, width)))
        inner = 2 * width
        self.head = nn.Sequential(
            nn.Linear(width, inner), nn.LayerNorm(inner), nn.GELU(), nn.Linear(inner, ANSWERS)
        )

    def forward(self, images: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        out = self.beit3(textual_tokens=ids, visual_tokens=images, text_padding_position=padding)
        pooled = self.pooler["dense"](self.pooler["norm"](out["encoder_out"][:, 0]))
        return self.head(torch.tanh(pooled))


class PublishedNLVR2(nn.Module):
    """As :class:`PublishedVQA`; each image goes through the encoder by itself."""

    def __init__(self, beit3: nn.Module, width: int) -> None:
        super().__init__()
        self.beit3 = beit3
        self.head = nn.ModuleDict(
            dict(
                norm1=nn.LayerNorm(4 * width),
                dense1=nn.Linear(4 * width, 2 * width),
                norm2=nn.LayerNorm(2 * width),
                dense2=nn.Linear(2 * width, 2),
            )
        )

    def forward(self, images: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        seen = []
        for own in images.unbind(1):
            out = self.beit3(textual_tokens=ids, visual_tokens=own, text_padding_position=padding)
            states, split = out["encoder_out"], out["multiway_split_position"]
            seen += [states[:, 0], states[:, split]]
        x = self.head["dense1"](self.head["norm1"](torch.cat(seen, -1)))
        return self.head["dense2"](F.gelu(self.head["norm2"](x)))


def published(kind: type, size: tuple) -> nn.Module:
    pytest.importorskip("torchscale", reason="pip install --no-deps torchscale==0.3.0")
    arch, img_size, patch, words = size
    sizes = resolve_arch(arch)
    beit3 = published_beit3(sizes, img_size, patch, words, kind is BEiT3NLVR2)
    theirs = {BEiT3VQA: PublishedVQA, BEiT3NLVR2: PublishedNLVR2}[kind]
    model = theirs(beit3, sizes["embed_dims"])
    torch.manual_seed(2)
    for param in model.parameters():
        std = 1.4 * sizes["embed_dims"] ** -0.5
        nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=std)
    return model.eval()


@KINDS
@pytest.mark.parametrize("size", SIZES, ids=["small", "wide heads", "tiny"])
@torch.no_grad()
def test_logits_equal_the_published_codes_from_its_own_file(
    kind: type, size: tuple, tmp_path: Path
) -> None:
    theirs = published(kind, size)
    file = tmp_path / "official.pth"
    torch.save({"model": theirs.state_dict()}, file)
    model = fusion(kind, size)
    assert load_task(model, file).complete
    for images, ids, padding in (inputs(kind, size), inputs(kind, size, 1)):
        want = theirs(images, ids, padding)
        found = model(images, ids, padding)
        worst = ((found - want).abs().max() / want.abs().max()).item()
        print(f"largest relative difference: {worst:.2e}")
        assert worst < 1e-5
    # and back: the published model takes ours strictly
    state = {name: value.clone() for name, value in to_official(model.state_dict()).items()}
    theirs.load_state_dict(state)
    assert (theirs(images, ids, padding) - want).abs().max() <= 1e-5 * want.abs().max()
    again = fusion(kind, size)
    load_weights(again, from_official(state))
    assert torch.equal(again(images, ids, padding), found)


@KINDS
def test_files_of_other_tasks_are_refused_by_name(kind: type, tmp_path: Path) -> None:
    other = {BEiT3VQA: BEiT3NLVR2, BEiT3NLVR2: BEiT3VQA}[kind]
    file = tmp_path / "other.pth"
    torch.save({"model": to_official(fusion(other).state_dict())}, file)
    words = {BEiT3VQA: "visual question answering", BEiT3NLVR2: "NLVR2, statements about two"}
    place = {BEiT3VQA: "configs/beit3_vqa", BEiT3NLVR2: "configs/beit3_nlvr2"}[other]
    match = (
        rf"checkpoint of {words[other]}.*{place} take it.*Expected a checkpoint of {words[kind]}"
    )
    with pytest.raises(InputError, match=match):
        load_task(fusion(kind), file)


def test_another_number_of_answers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vqa.pth"
    torch.save({"model": to_official(fusion(BEiT3VQA, answers=7).state_dict())}, file)
    with pytest.raises(InputError, match=r"head.3.weight.*\(7, 96\)"):
        load_task(fusion(BEiT3VQA), file)


@KINDS
@torch.no_grad()
def test_padding_and_the_order_of_a_batch_change_nothing(kind: type) -> None:
    model = fusion(kind)
    images, ids, padding = inputs(kind, SIZES[0])
    logits = model(images, ids, padding)
    largest = logits.abs().max()
    for index, length in enumerate(LENGTHS):
        alone = model(images[index : index + 1], ids[index : index + 1, :length])
        assert (logits[index] - alone[0]).abs().max() < 1e-5 * largest
    turned = model(images.flip(0), ids.flip(0), padding.flip(0)).flip(0)
    assert (turned - logits).abs().max() < 1e-5 * largest
    other = torch.where(padding, ids.flip(1), ids)
    assert torch.equal(model(images, other, padding), logits)


@torch.no_grad()
def test_left_and_right_images_are_told_apart() -> None:
    model = fusion(BEiT3NLVR2)
    images, ids, padding = inputs(BEiT3NLVR2, SIZES[0])
    swapped = model(images.flip(1), ids, padding)
    assert (swapped - model(images, ids, padding)).abs().max() > 1e-3


def samples(kind: type, **changes: object) -> list[BaseDataElement]:
    made = []
    for index in range(3):
        own = dict(img_path=f"{index}.png", question_id=70 + index, identifier=f"dev-{index}-0-0")
        sample = BaseDataElement(metainfo=own)
        fields = dict(texts=[f"a star {index}"], gt_label=index % 2)
        if kind is BEiT3VQA:
            fields = dict(fields, answer_labels=[index, 5], answer_scores=[0.3, 1.0])
        for name, value in (fields | changes).items():
            if value is not None:
                sample.set_field(value, name)
        made.append(sample)
    return made


def test_answers_are_learned_by_soft_targets_as_released() -> None:
    model = fusion(BEiT3VQA)
    given = samples(BEiT3VQA)
    given[2].answer_labels, given[2].answer_scores = [], []  # no answer of the list is right
    images, ids, padding = inputs(BEiT3VQA, SIZES[0])
    found = model(images, ids, padding, given, mode="loss")
    p = model(images, ids, padding).double().sigmoid()
    want = torch.zeros(3, ANSWERS, dtype=torch.float64)
    want[0, 0], want[1, 1], want[0, 5], want[1, 5] = 0.3, 0.3, 1.0, 1.0
    loss = -(want * p.log() + (1 - want) * (1 - p).log()).sum(1).mean()
    assert found["loss_vqa"].item() == pytest.approx(loss.item(), rel=1e-5)
    best = p.argmax(1)
    assert found["score"].item() == pytest.approx(100 * want[range(3), best].mean().item())
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images, ids, padding, given, mode="loss")["loss_vqa"].dtype == torch.float32


def test_statements_are_learned_by_cross_entropy() -> None:
    model = fusion(BEiT3NLVR2)
    images, ids, padding = inputs(BEiT3NLVR2, SIZES[0])
    found = model(images, ids, padding, samples(BEiT3NLVR2), mode="loss")
    log_p = model(images, ids, padding).log_softmax(1)
    assert found["loss_nlvr2"].item() == pytest.approx(-log_p[range(3), [0, 1, 0]].mean().item())
    assert set(found) == {"loss_nlvr2", "top1"}


@KINDS
def test_predictions_are_probabilities_of_each_sample(kind: type) -> None:
    model = fusion(kind)
    images, ids, padding = inputs(kind, SIZES[0])
    with torch.no_grad():
        found = model(images, ids, padding, samples(kind), mode="predict")
        logits = model(images, ids, padding)
    want = logits.sigmoid() if kind is BEiT3VQA else logits.softmax(1)
    assert torch.equal(torch.stack([sample.pred_scores for sample in found]), want)
    assert [sample.pred_label for sample in found] == logits.argmax(1).tolist()
    assert isinstance(found[0].pred_label, int)


@KINDS
def test_every_weight_learns(kind: type) -> None:
    model = fusion(kind).train()
    losses = model(*inputs(kind, SIZES[0]), samples(kind), mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(param.grad is not None for param in model.parameters())


@KINDS
def test_heads_start_as_released(kind: type) -> None:
    torch.manual_seed(0)
    model = kind(encoder(SIZES[0], kind))
    model.init_weights()
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("encoder.")
    ]
    scale = 1 if kind is BEiT3VQA else 0.001
    assert len(layers) == (3 if kind is BEiT3VQA else 2)
    for layer in layers:
        assert not layer.bias.any() and layer.weight.abs().max() <= 0.02 * scale
        assert 0.005 * scale < layer.weight.std() < 0.02 * scale
    if kind is BEiT3VQA:
        assert layers[-1].out_features == 3129


# README of microsoft/unilm beit3, in millions
COUNTS = [
    (BEiT3NLVR2, "base", 224, 225.72),
    (BEiT3NLVR2, "large", 224, 681.11),
    (BEiT3VQA, "base", 480, 228.11),
    (BEiT3VQA, "large", 480, 682.99),
    (BEiT3VQA, "large", 768, 684.42),
]


@pytest.mark.parametrize(("kind", "arch", "img_size", "want"), COUNTS)
def test_models_have_as_many_parameters_as_released(
    kind: type, arch: str, img_size: int, want: float
) -> None:
    with torch.device("meta"):
        model = kind(encoder((arch, img_size, 16, 64010), kind))
    count = sum(value.numel() for value in to_official(model.state_dict()).values())
    assert math.isclose(count / 1e6, want, abs_tol=0.005)


@KINDS
def test_batches_that_cannot_be_are_named(kind: type) -> None:
    model = fusion(kind)
    images, ids, padding = inputs(kind, SIZES[0])
    word = {BEiT3VQA: "question", BEiT3NLVR2: "statement"}[kind]

    def refused(match: str, changes: dict, **given: object) -> None:
        batch = dict(inputs=images, ids=ids, padding_mask=padding) | given
        with pytest.raises(InputError, match=match):
            model(**batch, data_samples=samples(kind, **changes), mode="loss")

    refused(f"a batch has {word}s and no images", {}, inputs=None)
    refused(f"a batch has images and no {word}s", {}, ids=None, padding_mask=None)
    refused(f"0.png has 2 texts; expected one {word}", dict(texts=["a", "star"]))
    refused(f"0.png has 0 texts; expected one {word}", dict(texts=None))
    if kind is BEiT3VQA:
        refused("question 70 of 0.png has the answer_labels None", dict(answer_labels=None))
        refused("answer_scores .0.3.; expected as many", dict(answer_scores=[0.3]))
        refused("answer label 11; expected 0 to 10, the model has 11", dict(answer_labels=[1, 11]))
        with pytest.raises(InputError, match="num_classes is 0"):
            fusion(kind, answers=0)
    else:
        refused("statement dev-0-0-0 has the label None; expected 0", dict(gt_label=None))
        refused("dev-0-0-0 has the label 2; expected 0", dict(gt_label=2))
        refused(r"shape \(3, 3, 32, 32\); expected \(B, 2, 3, H, W\)", {}, inputs=images[:, 0])
        refused(r"shape \(3, 1, 3, 32, 32\); expected", {}, inputs=images[:, :1])
    with pytest.raises(InputError, match="mode is 'train'"):
        model(images, ids, padding, mode="train")


@KINDS
def test_pixels_and_words_become_predictions(kind: type, tokenizer_file: Path) -> None:
    words = Tokenizer(tokenizer_file).vocab_size
    preprocessor = dict(
        type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=str(tokenizer_file))
    )
    cfg = dict(
        type=f"mmbeit3.{kind.__name__}",
        encoder=encoder((ARCH, 32, 8, words), kind, max_tokens=64),
        data_preprocessor=preprocessor,
    )
    model = MODELS.build(cfg).eval()
    own = (2,) if kind is BEiT3NLVR2 else ()
    pixels = torch.randint(0, 256, (3, *own, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        found = model.test_step(dict(inputs=list(pixels), data_samples=samples(kind)))
    batch = model.data_preprocessor(dict(inputs=list(pixels), data_samples=samples(kind)))
    assert torch.equal(batch["inputs"], (pixels.flip(-3).float() - 127.5) / 127.5)
    assert [len(sample.pred_scores) for sample in found] == [3129 if not own else 2] * 3
    with pytest.raises(InputError, match="rows; expected"):
        MODELS.build(cfg | dict(encoder=encoder((ARCH, 32, 8, 64010), kind)))


@pytest.mark.parametrize(("options", "scale"), [({}, 0.001), (dict(init_scale=8.0), 8.0)])
def test_judges_draw_their_head_as_released_or_larger(options: dict, scale: float) -> None:
    model = BEiT3NLVR2(encoder(SIZES[0], BEiT3NLVR2), **options)
    model.init_weights()
    for layer in (model.head.dense1, model.head.dense2):
        assert 0.9 * 0.02 * scale < layer.weight.abs().max() <= 1.001 * 0.02 * scale
        assert not layer.bias.any()
