"""Classification by names: the softmax over all class texts, templates, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement

from mmbeit3.checkpoint import load_task
from mmbeit3.models import BEiT3TextClassifier
from mmbeit3.text.templates import TEMPLATES
from mmbeit3.utils import InputError
from tests.test_checkpoint.official import SMALL, official_weights

NAMES = ("red square", "blue star", "large green circle", "two small squares")
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=48)


@pytest.fixture
def build(tokenizer_file: Path):
    def make(**options) -> BEiT3TextClassifier:
        torch.manual_seed(0)
        encoder = dict(
            type="mmbeit3.BEiT3Multiway", arch=ARCH, img_size=32, patch_size=8, vocab_size=128
        )
        preprocessor = dict(
            type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=str(tokenizer_file))
        )
        options = dict(class_names=NAMES, data_preprocessor=preprocessor) | options
        model = BEiT3TextClassifier(encoder, **options)
        model.init_weights()
        return model

    return make


def batch(labels: list[int]) -> dict:
    samples = [BaseDataElement(gt_label=label) for label in labels]
    torch.manual_seed(1)
    return dict(inputs=torch.randn(len(labels), 3, 32, 32), data_samples=samples)


def by_hand(model: BEiT3TextClassifier, texts: list[str]) -> torch.Tensor:
    """Features of texts, one text at a time."""
    return torch.cat([model.encode_text(*model.data_preprocessor.tokenize([t])) for t in texts])


def test_loss_is_the_softmax_over_all_class_texts(build) -> None:
    model = build(label_smoothing=0.1, texts_per_batch=3).train()
    data = batch([2, 0, 3])
    losses = model(**data, mode="loss")
    logits = model.logit_scale.exp() * model.encode_image(data["inputs"]) @ by_hand(model, NAMES).T
    expected = F.cross_entropy(logits, torch.tensor([2, 0, 3]), label_smoothing=0.1)
    torch.testing.assert_close(losses["loss"], expected)
    ours = torch.autograd.grad(losses["loss"], list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for gradient, other in zip(ours, theirs, strict=True):
        # By the largest: a sum that cancels keeps the rounding of its terms.
        scale = max(other.abs().max().item(), 1e-3)
        torch.testing.assert_close(gradient, other, atol=1e-5 * scale, rtol=1e-4)


def test_templates_are_normalized_averaged_normalized(build) -> None:
    model = build(templates="default").eval()
    with torch.no_grad():
        texts = [[t.replace("{}", name) for t in TEMPLATES] for name in NAMES]
        expected = torch.stack([F.normalize(by_hand(model, each).mean(0), dim=0) for each in texts])
        torch.testing.assert_close(model.class_features(), expected)
        data = batch([0, 1])
        found = model(**data, mode="predict")
        logits = model.logit_scale.exp() * model.encode_image(data["inputs"]) @ expected.T
    torch.testing.assert_close(found[1].pred_scores, logits.softmax(1)[1])


def test_class_texts_are_encoded_once_and_never_stale(
    build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build().eval()
    count = []
    encode = model.encode_text
    monkeypatch.setattr(model, "encode_text", lambda *a: count.append(1) or encode(*a))

    @torch.no_grad()
    def features() -> torch.Tensor:
        return model.class_features().clone()

    before = features()
    assert torch.equal(features(), before) and len(count) == 1
    with torch.no_grad():
        model.language_head.weight.mul_(torch.linspace(0.5, 2, 32))  # as an optimizer does
    after = features()
    assert len(count) == 2 and not torch.allclose(after, before)
    state = {name: 1.5 * value for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    loaded = features()
    assert len(count) == 3 and not torch.allclose(loaded, after)
    model.encoder.text.pos_embed.data.neg_()  # as averages are put in, before eval()
    model.eval()
    assert not torch.allclose(features(), loaded) and len(count) == 4
    exact = features()
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(features(), exact) and len(count) == 5
    assert torch.equal(features(), exact) and len(count) == 6
    model.double()
    assert features().dtype == torch.float64 and len(count) == 7
    model.set_classes(NAMES[:2])
    assert features().shape == (2, 32)


def test_gradients_are_never_kept(build) -> None:
    model = build().eval()
    with torch.no_grad():
        model.class_features()
    assert model.class_features().requires_grad


def test_other_classes_need_no_other_weights(build) -> None:
    model = build().eval()
    with torch.no_grad():
        first = model(batch([0])["inputs"])
        model.set_classes(["green", NAMES[1], "striped"])
        second = model(batch([0])["inputs"])
    assert second.shape == (1, 3)
    torch.testing.assert_close(second[:, 1], first[:, 1])


def test_official_files_of_the_dual_encoder_are_taken_whole() -> None:
    encoder = dict(
        type="mmbeit3.BEiT3Multiway",
        arch=SMALL.arch,
        img_size=48,
        patch_size=SMALL.patch,
        vocab_size=SMALL.vocabulary,
    )
    model, state = BEiT3TextClassifier(encoder), official_weights("itc")
    report = load_task(model, state)
    assert not report.missing and set(report.matched) == set(model.state_dict())
    assert torch.equal(model.language_head.weight, state["language_head.weight"].float())
    with pytest.raises(InputError, match="is a checkpoint of ImageNet classification"):
        load_task(model, official_weights("in1k"))


def test_a_file_of_templates(build, tmp_path: Path) -> None:
    file = tmp_path / "sentences.txt"
    file.write_text("the {} on the left\n\ntwo {}\n")
    assert build(templates=str(file)).templates == ("the {} on the left", "two {}")


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([], "has no template"),
        (["a star", "a {}"], "number 1 is 'a star'; expected a sentence with {} once"),
        (["{} and {}"], "expected a sentence with {} once"),
        (
            "absent.txt",
            "templates: there is no file absent.txt; expected a sentence a line, such as",
        ),
    ],
)
def test_templates_that_cannot_be_used(build, templates, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(templates=templates)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["red", "blue", " red"], "more than once: red"),
        (["红", "蓝"], "'红' and '蓝' have the same tokens"),
        (["red", " "], "class name 1 of 2 is empty"),
        ("red", "the class names are 'red'; expected a list of texts"),
    ],
)
def test_names_that_cannot_be_told_apart(build, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(class_names=names)


def test_names_that_a_long_sentence_cuts_off_are_refused(build) -> None:
    with pytest.raises(InputError, match="have the same tokens"):
        build(templates=["red " * 70 + "{}"])


def test_without_classes_or_tokenizer_it_says_so(build) -> None:
    with pytest.raises(InputError, match="does not know the names of its classes: call set_class"):
        build(class_names=None)(**batch([0]), mode="loss")
    with pytest.raises(InputError, match="reads names of classes and has no tokenizer"):
        build(data_preprocessor=None)
