"""Captioning: what is masked, the loss, what goes in and comes out, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement

from mmbeit3.models import BEiT3Captioning
from mmbeit3.models.multimodal.caption_loss import caption_loss, mask_words
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError

SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
CAPTIONS = ["a red circle", "the large blue square on the left", "two stars"]


def config(file: Path, max_length: int = 12, **more: object) -> dict:
    size = dict(arch=SMALL, img_size=32, patch_size=8, max_tokens=20)
    encoder = dict(type="mmbeit3.BEiT3Multiway", vocab_size=Tokenizer(file).vocab_size + 3, **size)
    preprocessor = dict(
        type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=str(file)), max_length=max_length
    )
    model = dict(type="mmbeit3.BEiT3Captioning", encoder=encoder, data_preprocessor=preprocessor)
    return model | more


def captioner(file: Path, **more: object) -> BEiT3Captioning:
    """A model of wide weights, whose captions differ."""
    torch.manual_seed(0)
    model = MODELS.build(config(file, **more))
    model.init_weights()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    return model.eval()


def data(texts: list[str] = CAPTIONS, size: int = 32) -> dict:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (len(texts), 3, size, size), generator=generator)
    samples = []
    for index, text in enumerate(texts):
        sample = BaseDataElement(metainfo=dict(image_id=index))
        sample.texts = [text] if text else []
        samples.append(sample)
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


@pytest.mark.parametrize(
    ("tokens", "rate", "want"),
    [(12, 0.7, 8), (14, 0.7, 10), (3, 0.7, 2), (2, 0.7, 1), (9, 1.0, 8), (20, 0.01, 1)],
)
def test_as_many_words_are_masked_as_released(tokens: int, rate: float, want: int) -> None:
    torch.manual_seed(0)
    ids = torch.randint(3, 90, (50, tokens + 4))
    padding = torch.arange(tokens + 4) >= torch.full((50, 1), tokens)
    hidden, chosen = mask_words(ids, padding, rate, 99)
    assert (chosen.sum(1) == want).all()
    assert not chosen[:, 0].any() and not chosen[padding].any()
    assert torch.equal(hidden[~chosen], ids[~chosen])
    full = mask_words(ids[:, :tokens], None, rate, 99)[1]
    assert (full.sum(1) == want).all()


def test_masked_words_are_replaced_in_the_released_shares() -> None:
    torch.manual_seed(0)
    ids = torch.full((2000, 20), 7)
    hidden, chosen = mask_words(ids, None, 0.7, 99)
    assert chosen[:, 1:].float().mean(0).sub(14 / 19).abs().max() < 0.04  # each place, end too
    found = hidden[chosen]
    assert (found == 99).float().mean() == pytest.approx(0.8 + 0.1 / 97, abs=0.01)
    assert (found == 7).float().mean() == pytest.approx(0.1 + 0.1 / 97, abs=0.01)
    others = found[(found != 99) & (found != 7)]
    assert others.min() == 3 and others.max() == 98 and len(others.unique()) == 95
    torch.manual_seed(5)
    again = mask_words(ids, None, 0.7, 99)
    torch.manual_seed(5)
    assert all(
        torch.equal(*pair) for pair in zip(again, mask_words(ids, None, 0.7, 99), strict=False)
    )


def released_loss(logits, target, eps: float, ratio: float = 0.0):
    """The released loss: divergence from an explicit smoothed target."""
    total = logits.size(1)
    one_hot = torch.zeros_like(logits).scatter(1, target.view(-1, 1), 1)
    one_hot = one_hot * (1 - eps) + (1 - one_hot) * eps / (total - 1)
    loss = F.kl_div(F.log_softmax(logits, 1), one_hot, reduction="none").sum(1)
    if ratio:
        loss = loss.topk(int(len(loss) * (1 - ratio)), largest=False)[0]
    return loss.mean()


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("shape", [(30, 11), (7, 130), (1, 4)])
def test_the_loss_and_its_gradient_are_the_released_ones(eps, ratio, shape) -> None:
    if shape[0] == 1 and ratio:
        return  # released: the mean of nothing
    torch.manual_seed(0)
    target = torch.randint(0, shape[1], shape[:1])
    ours, theirs = (torch.randn(shape).mul(3).double().requires_grad_() for _ in range(2))
    theirs.data.copy_(ours.data)
    found = caption_loss(ours, target, eps, ratio)
    want = released_loss(theirs, target, eps, ratio)
    assert found.item() == pytest.approx(want.item(), abs=1e-9)
    found.backward(), want.backward()
    assert (ours.grad - theirs.grad).abs().max() < 1e-12


def test_a_perfect_guess_has_no_loss_and_one_guess_is_kept() -> None:
    eps, total = 0.1, 64010
    logits = torch.full((2, total), math.log(eps / (total - 1)))
    logits[:, 5] = math.log(1 - eps)
    target = torch.tensor([5, 5])
    assert caption_loss(logits.double(), target, eps).abs() < 1e-5
    constant = F.cross_entropy(logits, target, label_smoothing=eps * total / (total - 1))
    assert constant.item() == pytest.approx(1.43, abs=0.01)
    assert caption_loss(logits[:1], target[:1], eps, 0.9).isfinite()


def test_a_step_reaches_every_weight_that_a_word_can_see(tokenizer_file: Path) -> None:
    model = captioner(tokenizer_file).train()
    losses = model(**model.data_preprocessor(data(), True), mode="loss")
    assert list(losses) == ["loss_caption"]
    losses["loss_caption"].backward()
    without = {name for name, param in model.named_parameters() if param.grad is None}
    assert without == {"encoder.vision.norm.weight", "encoder.vision.norm.bias"}
    assert not any(param.requires_grad for param in model.encoder.vision.norm.parameters())
    assert model.encoder.vision.layers[0].ffn.fc1.weight.grad.abs().sum() > 0


def test_the_worst_guesses_are_dropped_after_their_iteration(tokenizer_file: Path) -> None:
    def losses(iteration: int, **options) -> float:
        model = captioner(tokenizer_file, **options)
        hub = MessageHub.get_instance(f"captions {iteration}")
        hub.update_info("iter", iteration)
        batch = model.data_preprocessor(data())
        torch.manual_seed(0)
        return model(**batch, mode="loss")["loss_caption"].item()

    options = dict(drop_worst_ratio=0.2, drop_worst_after=5)
    whole = losses(0)
    assert losses(5, **options) == whole > losses(6, **options)
    assert losses(6) == whole


@torch.no_grad()
def test_the_head_starts_as_released(tokenizer_file: Path) -> None:
    model = MODELS.build(config(tokenizer_file))
    model.init_weights()
    assert 0.01 < model.mlm_head.weight.std() < 0.02 and model.mlm_head.weight.abs().max() <= 0.02
    assert not model.mlm_head.bias.any()
    assert model.mlm_head.weight is not model.encoder.text.text_embed.weight


# The README of microsoft/unilm beit3 has 271M and 739M
@pytest.mark.parametrize(("arch", "want"), [("base", 270.75), ("large", 739.03)])
def test_weights_are_as_many_as_released(arch: str, want: float) -> None:
    with torch.device("meta"):
        model = BEiT3Captioning(dict(type="mmbeit3.BEiT3Multiway", arch=arch, img_size=480))
    count = sum(param.numel() for param in model.parameters())
    # the mask token for images and two rows of each table of positions have no use here
    width = model.encoder.embed_dims
    assert (count + width * 5) / 1e6 == pytest.approx(want, abs=0.005)


@torch.no_grad()
def test_predictions_are_captions_of_each_image(tokenizer_file: Path) -> None:
    model = captioner(tokenizer_file)
    found = model.test_step(data(["a red circle", "", "two stars"]))  # one image without captions
    assert all(isinstance(sample.pred_caption, str) and sample.pred_caption for sample in found)
    assert all(isinstance(sample.pred_score, float) for sample in found)
    images = model.data_preprocessor(data())["inputs"]
    captions = model.generate(images)
    assert [c.text for c in captions] == [sample.pred_caption for sample in found]
    assert len({c.text for c in captions}) > 1
    assert captions == model.generate(images)
    shorter = model.generate(images, beams=2, max_length=4)
    assert all(len(caption.ids) <= 2 for caption in shorter)
    logits = model(**model.data_preprocessor(data()))
    assert logits.shape[:1] == (3,) and logits.shape[2] == model.mlm_head.out_features


def test_what_does_not_fit_is_named(tokenizer_file: Path) -> None:
    for wrong, match in (
        (dict(mask_rate=-0.1), "mask_rate is -0.1; expected above 0 and at most 1"),
        (dict(mask_rate=0), "mask_rate is 0; expected above 0 and at most 1"),
        (dict(mask_rate=1.1), "mask_rate is 1.1; expected above 0 and at most 1"),
        (dict(label_smoothing=1.0), "label_smoothing is 1.0; expected 0 or more and below 1"),
        (dict(label_smoothing=-0.1), "label_smoothing is -0.1; expected 0 or more"),
        (dict(drop_worst_ratio=1.0), "drop_worst_ratio is 1.0; expected 0 or more and below 1"),
        (dict(generation=dict(beam=3)), "generation has no option 'beam'; expected beams, "),
        (dict(generation=dict(beams=0)), "beams of the generation is 0; expected 1 or more"),
        (dict(generation=dict(beams=1.5)), "beams of the generation is 1.5; expected a whole"),
        (dict(generation=dict(beams="x")), "beams of the generation is 'x'; expected a whole"),
        (dict(generation=dict(max_length=True)), "is True; expected a whole number of 3 or more"),
        (dict(generation=dict(length_penalty="x")), "is 'x'; expected 0 or more"),
        (dict(generation=dict(length_penalty=float("inf"))), "is inf; expected 0 or more"),
        (dict(generation=dict(length_penalty=float("nan"))), "is nan; expected 0 or more"),
        (dict(generation=dict(max_length=2)), "max_length of the generation is 2; expected 3"),
        (dict(generation=dict(max_length=30)), "is 30 and the encoder has 20 positions"),
        (dict(max_length=30), "the tokenizer's max_length is 30 and the encoder has 20"),
    ):
        with pytest.raises(InputError, match=match):
            MODELS.build(config(tokenizer_file, **wrong))
    model = captioner(tokenizer_file)
    batch = model.data_preprocessor(data())
    with pytest.raises(InputError, match="has 3 images and 2 captions; training takes pairs"):
        model(batch["inputs"], batch["ids"][:2], mode="loss")
    with pytest.raises(InputError, match="has 3 images and 0 captions"):
        model(batch["inputs"], mode="loss")
    with pytest.raises(InputError, match="a batch has no images"):
        model(mode="predict")
    with pytest.raises(InputError, match="has no option 'top'"):
        model.generate(batch["inputs"], top=3)
    wordless = MODELS.build(config(tokenizer_file, data_preprocessor=None))
    with pytest.raises(InputError, match="the model has no tokenizer"):
        wordless.generate(batch["inputs"])
