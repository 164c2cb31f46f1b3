"""The dual encoder: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.structures import BaseDataElement

from mmbeit3.models import BEiT3Retrieval, ImageTextPreprocessor
from mmbeit3.registry import MODELS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError

SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
TEXTS = [["a red circle", "the large blue square on the left"], [], ["two stars"]]


def encoder(file: Path, **more: object) -> dict:
    size = dict(arch=SMALL, img_size=32, patch_size=8, max_tokens=20)
    words = dict(vocab_size=Tokenizer(file).vocab_size)
    return dict(type="mmbeit3.BEiT3Multiway", **size | words | more)


def config(file: Path, **more: object) -> dict:
    preprocessor = dict(
        type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file=str(file)), max_length=20
    )
    return (
        dict(type="mmbeit3.BEiT3Retrieval", encoder=encoder(file), data_preprocessor=preprocessor)
        | more
    )


def retrieval(file: Path, **more: object) -> BEiT3Retrieval:
    torch.manual_seed(0)
    model = MODELS.build(config(file, **more))
    model.init_weights()
    return model.eval()


def data(texts: list[list[str]] = TEXTS, size: int = 32) -> dict:
    generator = torch.Generator().manual_seed(1)
    shape = (len(texts), 3, size, size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    samples = []
    for index, own in enumerate(texts):
        sample = BaseDataElement(metainfo=dict(image_id=f"image {index}"))
        sample.texts = own
        samples.append(sample)
    return dict(inputs=list(images), data_samples=samples)


def test_a_batch_is_images_ids_and_padding(tokenizer_file: Path) -> None:
    preprocessor = ImageTextPreprocessor(tokenizer=dict(file=tokenizer_file), max_length=20)
    given = data()
    batch = preprocessor(given)
    pixels = torch.stack(given["inputs"]).flip(1).float()
    assert torch.equal(batch["inputs"], (pixels - 127.5) / 127.5)
    ids, padding = Tokenizer(tokenizer_file, 20).batch([t for own in TEXTS for t in own])
    assert torch.equal(batch["ids"], ids) and torch.equal(batch["padding_mask"], padding)
    assert [sample.texts for sample in batch["data_samples"]] == TEXTS
    alone = preprocessor(dict(inputs=torch.stack(given["inputs"])))
    assert torch.equal(alone["inputs"], batch["inputs"]) and alone["ids"] is None
    assert preprocessor(dict(data_samples=given["data_samples"]))["inputs"] is None


@torch.no_grad()
def test_predictions_are_unit_features_of_each_image_and_its_texts(tokenizer_file: Path) -> None:
    model = retrieval(tokenizer_file)
    found = model.test_step(data())
    batch = model.data_preprocessor(data())
    images = model.encode_image(batch["inputs"])
    texts = model.encode_text(batch["ids"], batch["padding_mask"])
    assert torch.allclose(images.norm(dim=1), torch.ones(3))
    assert torch.allclose(texts.norm(dim=1), torch.ones(3))
    assert torch.equal(torch.stack([sample.image_feature for sample in found]), images)
    assert [len(sample.text_features) for sample in found] == [2, 0, 1]
    assert torch.equal(torch.cat([sample.text_features for sample in found]), texts)
    alone = model.encode_text(*model.data_preprocessor.tokenize(["two stars"]))
    assert torch.allclose(alone[0], texts[2], atol=1e-6)  # padding is not seen
    tensors = model(**model.data_preprocessor(dict(inputs=data()["inputs"])))
    assert torch.equal(tensors[0], images) and tensors[1] is None


@pytest.mark.parametrize("options", [{}, dict(same_image="positive", max_logit_scale=5.0)])
def test_a_step_reaches_every_weight(tokenizer_file: Path, options: dict) -> None:
    model = retrieval(tokenizer_file, **options).train()
    batch = model.data_preprocessor(data([["a star"], ["a red circle on the left"], ["two"]]), True)
    losses = model(**batch, mode="loss")
    assert list(losses) == ["loss_itc"]
    losses["loss_itc"].backward()
    for name, param in model.named_parameters():
        if name.endswith(("text_embed.weight", "text.pos_embed")):
            assert param.grad.abs().sum() > 0
        else:
            assert param.grad is not None, name
    limit = math.log(5.0) if options else math.log(1 / 0.07)
    assert model.logit_scale.item() == pytest.approx(limit)


def test_heads_start_as_released(tokenizer_file: Path) -> None:
    model = retrieval(tokenizer_file)
    for head in (model.vision_head, model.language_head):
        assert head.bias is None and 0.005 < head.weight.std() < 0.02
        assert head.weight.abs().max() <= 0.02
    assert model.logit_scale.shape == () and model.logit_scale.item() == pytest.approx(2.6593, 1e-4)


def test_what_does_not_fit_is_named(tokenizer_file: Path) -> None:
    ids = Tokenizer(tokenizer_file).vocab_size
    for wrong, match in (
        (dict(encoder=encoder(tokenizer_file, vocab_size=64010)), f"has {ids} ids .* 64010 rows"),
        (
            dict(encoder=encoder(tokenizer_file, max_tokens=9)),
            "max_length is 20 .* has 9 positions",
        ),
        (dict(encoder=encoder(tokenizer_file, vl_layers=2)), "has 2 vl_layers"),
        (dict(same_image="neutral"), "same_image is 'neutral'"),
        (dict(max_logit_scale=0.5), "max_logit_scale is 0.5"),
    ):
        with pytest.raises(InputError, match=match):
            MODELS.build(config(tokenizer_file, **wrong))
    absent = dict(type="mmbeit3.ImageTextPreprocessor", tokenizer=dict(file="none.spm"))
    with pytest.raises(InputError, match="no tokenizer at none.spm: the official .*SHA-256"):
        MODELS.build(config(tokenizer_file, data_preprocessor=absent))
    model = retrieval(tokenizer_file)
    with pytest.raises(InputError, match="the text ' ' is empty"):
        model.test_step(data([[" "]]))
    with pytest.raises(InputError, match="has 3 images and 4 texts; training takes pairs"):
        model(**model.data_preprocessor(data([["a"], ["a", "two"], ["the"]])), mode="loss")
    with pytest.raises(InputError, match="a batch has no texts"):
        model(**model.data_preprocessor(data([[], []])), mode="loss")
    mixed = data()
    mixed["inputs"][1] = mixed["inputs"][1][:, :16]
    with pytest.raises(InputError, match=r"sizes \(3, 16, 32\) and \(3, 32, 32\); expected one"):
        model.test_step(mixed)
    wordless = dict(type="mmbeit3.ImageTextPreprocessor")
    with pytest.raises(InputError, match="the model has no tokenizer"):
        retrieval(tokenizer_file, data_preprocessor=wordless).test_step(data())
