"""Class names as vectors, and the scores of features: next to the formula, name by name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmbeit3.models import ClassEmbeddings
from mmbeit3.models.multimodal import class_embeddings
from mmbeit3.models.multimodal.class_embeddings import ClassSimilarity
from mmbeit3.models.multimodal.class_texts import check_names
from mmbeit3.registry import MODELS
from mmbeit3.utils import InputError
from tests.open_vocabulary import embeddings_cfg, small_tokenizer

NAMES = ["red square", "star", "two blue circle"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def build(tokenizer: Path, **options: object) -> ClassEmbeddings:
    torch.manual_seed(0)
    found = MODELS.build(embeddings_cfg(tokenizer, **options))
    found.init_weights()
    for param in found.parameters():
        nn.init.normal_(param, std=0.3)
    return found


def vector_of(embeddings: ClassEmbeddings, text: str) -> Tensor:
    """The unit vector of one text, as retrieval defines it."""
    ids = torch.tensor([embeddings.tokenizer.encode(text)])
    begin = embeddings.text(ids)[0, 0]
    vector = embeddings.language_head.weight @ begin
    return vector / vector.norm()


def test_a_name_is_the_begin_token_after_the_head(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    expected = torch.stack([vector_of(embeddings, name) for name in NAMES])
    torch.testing.assert_close(embeddings(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(embeddings().norm(dim=1), torch.ones(3))


def test_templates_are_averaged_as_unit_vectors(tokenizer: Path) -> None:
    templates = ("a {}", "the small {} on the left", "{}")
    embeddings = build(tokenizer, templates=templates)
    embeddings.set_classes(NAMES)
    for name, vector in zip(NAMES, embeddings(), strict=True):
        mean = sum(vector_of(embeddings, text.format(name)) for text in templates) / 3
        torch.testing.assert_close(vector, mean / mean.norm(), rtol=0, atol=1e-6)


def test_many_names_are_those_of_one_at_a_time(tokenizer: Path) -> None:
    names = [f"{one} {other}" for one in "abcdefghijklmn" for other in "opqrstuvwxy"]
    embeddings = build(tokenizer)
    known = [name for name in names if _is_known(embeddings, name)]
    known = list({tuple(embeddings.tokenizer.encode(n)): n for n in known}.values())
    embeddings.set_classes(known)
    assert len(known) > 20
    expected = torch.stack([vector_of(embeddings, name) for name in known])
    torch.testing.assert_close(embeddings(), expected, rtol=0, atol=1e-5)


def _is_known(embeddings: ClassEmbeddings, name: str) -> bool:
    return 3 not in embeddings.tokenizer.encode(name)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (0, 7)])
def test_scores_are_cosines_by_temperature(
    tokenizer: Path, background: bool, shape: tuple[int, ...]
) -> None:
    embeddings = build(tokenizer, classes=NAMES, temperature=0.2)
    layer = ClassSimilarity(embeddings, 7, background)
    x = torch.randn(shape)
    scores = layer(x)
    assert scores.shape == (*shape[:-1], 3 + background) and scores.dtype == torch.float32
    vectors = [*embeddings(), *([layer.background[0]] if background else [])]
    for index in torch.cartesian_prod(*(torch.arange(size) for size in shape[:-1])):
        feature = layer.proj(x[tuple(index.reshape(-1))])
        for number, vector in enumerate(vectors):
            cosine = feature @ vector / feature.norm() / vector.norm()
            found = scores[tuple(index.reshape(-1))][number]
            torch.testing.assert_close(found, cosine / 0.2, rtol=1e-4, atol=1e-5)


def test_a_map_is_scored_pixel_by_pixel(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    layer = ClassSimilarity(embeddings, 6, background=False, channel_dim=1)
    x = torch.randn(2, 6, 4, 5)
    scores = layer(x)
    assert scores.shape == (2, 3, 4, 5)
    layer.channel_dim = -1
    torch.testing.assert_close(scores[1, :, 2, 3], layer(x[1, :, 2, 3]))


def test_of_orthonormal_names_it_is_a_plain_layer_on_unit_features(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES, temperature=1.0)
    embeddings()
    embeddings._vectors = torch.eye(3, 32)
    layer = ClassSimilarity(embeddings, 8, background=False)
    plain = nn.Linear(8, 3)
    plain.load_state_dict({name: value[:3] for name, value in layer.proj.state_dict().items()})
    x = torch.randn(6, 8)
    lengths = layer.proj(x).norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x) * lengths, plain(x))


def test_names_can_change_at_any_time(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    layer, x = ClassSimilarity(embeddings, 7, True), torch.randn(4, 7)
    before = layer(x)
    embeddings.set_classes(["the green star", *reversed(NAMES)])
    after = layer(x)
    assert after.shape == (4, 5)
    torch.testing.assert_close(after[:, [3, 2, 1, 4]], before)


def test_no_weight_depends_on_the_names(tokenizer: Path) -> None:
    names = dict(build(tokenizer, classes=NAMES).state_dict())
    assert names.keys() == build(tokenizer, classes=["star"]).state_dict().keys()


def test_loaded_weights_give_other_vectors(tokenizer: Path) -> None:
    embeddings, other = build(tokenizer, classes=NAMES), build(tokenizer, classes=NAMES)
    before = embeddings()
    for param in other.parameters():
        nn.init.normal_(param, std=0.2)
    nn.ModuleList([embeddings]).load_state_dict(nn.ModuleList([other]).state_dict())
    assert not torch.allclose(embeddings(), before)
    torch.testing.assert_close(embeddings(), other())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_type_score_as_before(tokenizer: Path, dtype: torch.dtype) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    model = nn.ModuleList([embeddings, ClassSimilarity(embeddings, 7, True)]).eval()
    x = torch.randn(4, 7)
    before = model[1](x)
    torch.testing.assert_close(model.to(dtype)[1](x.to(dtype)), before, rtol=0.05, atol=0.3)


def test_names_that_a_long_sentence_cuts_off_are_refused(tokenizer: Path) -> None:
    sentence = "star " * 70 + "{}"
    with pytest.raises(InputError, match="'red square' and 'star' have the same tokens"):
        build(tokenizer, templates=(sentence,), classes=NAMES)
    build(tokenizer, templates=(sentence, "a {}"), classes=NAMES)


def test_many_names_are_compared_at_once() -> None:
    names = tuple(map(str, range(200_000)))
    assert check_names(names) == names


def test_a_frozen_tower_learns_nothing_and_runs_once(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    layer = ClassSimilarity(embeddings, 7, True)
    nn.ModuleList([embeddings, layer]).train()
    assert not embeddings.text.training
    runs = []
    embeddings.text.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(3):
        layer(torch.randn(4, 7)).square().sum().backward()
    assert len(runs) == 1
    assert all(param.grad is None for param in embeddings.parameters())
    assert all(param.grad.abs().sum() > 0 for param in layer.parameters())
    assert not [name for name, _ in layer.named_parameters() if "text" in name]


def test_a_trained_tower_learns(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES, frozen=False)
    layer = ClassSimilarity(embeddings, 7, True)
    both = nn.ModuleList([embeddings, layer])
    both.train()
    optimizer = torch.optim.SGD(both.parameters(), 0.1)
    found = []
    for _ in range(2):
        embeddings.forget()
        layer(torch.ones(4, 7))[:, 0].sum().neg().backward()
        assert embeddings.text.text_embed.weight.grad.abs().sum() > 0
        optimizer.step()
        both.eval()
        found.append(embeddings().detach())
        both.train()
    assert not torch.allclose(*found)


def test_a_copy_has_names_and_vectors_of_its_own(tokenizer: Path) -> None:
    embeddings = build(tokenizer, classes=NAMES)
    model = nn.ModuleList([embeddings, ClassSimilarity(embeddings, 7, True)])
    other = copy.deepcopy(model)
    other[0].set_classes(["star"])
    x = torch.randn(2, 7)
    assert model[1](x).shape == (2, 4) and other[1](x).shape == (2, 2)


def test_it_starts_from_a_dual_encoder(tokenizer: Path, tmp_path: Path) -> None:
    source = build(tokenizer, classes=NAMES)
    vision = dict(MODELS.build(dict(type="mmbeit3.BEiT3", **_vision(source))).state_dict())
    state = {f"encoder.text.{name}": value for name, value in source.text.state_dict().items()}
    state |= {f"encoder.vision.{name}": value for name, value in vision.items()}
    state["language_head.weight"] = source.language_head.weight.detach().clone()
    file = tmp_path / "retrieval.pth"
    torch.save({"state_dict": state}, file)
    init = dict(type="Pretrained", checkpoint=str(file))
    other = MODELS.build(embeddings_cfg(tokenizer, classes=NAMES, init_cfg=init))
    other.init_weights()
    torch.testing.assert_close(other(), source())

    del state["language_head.weight"]
    torch.save({"state_dict": state}, file)
    with pytest.raises(InputError, match=r"language_head\.weight \(32, 32\).*has none"):
        other.init_weights()


def _vision(source: ClassEmbeddings) -> dict:
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    return dict(arch=arch, img_size=32, patch_size=8)


def test_random_weights_are_said(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(class_embeddings, "warn", said.append)
    MODELS.build(embeddings_cfg(tokenizer)).init_weights()
    assert len(said) == 1 and "frozen at random weights" in said[0]
    MODELS.build(embeddings_cfg(tokenizer, frozen=False)).init_weights()
    assert len(said) == 1


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ("dog", r"are 'dog'; expected a list of texts"),
        ([], r"are \[\]; expected a list"),
        (["star", 3], r"expected a list of texts"),
        (["star", " \t"], r"class name 1 of 2 is empty.*leave it out"),
        (["star", "square", " star"], r"more than once: star"),
        (["キリン", "象"], r"'キリン' and '象' have the same tokens.*another name"),
        (["star", "\ud800"], r"has half a character"),
        (["star " * 70, "star " * 71], r"have the same tokens"),
    ],
)
def test_names_that_cannot_be_told_apart(tokenizer: Path, names: object, match: str) -> None:
    embeddings = build(tokenizer)
    with pytest.raises(InputError, match=match):
        embeddings.set_classes(names)
    with pytest.raises(InputError, match="no class names to compare with: expected"):
        embeddings()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(templates="a {}"), "templates"),
        (dict(templates=()), "templates"),
        (dict(templates=("a photo",)), "templates"),
        (dict(temperature=0), "temperature is 0; expected above 0"),
    ],
)
def test_options_that_cannot_be(tokenizer: Path, options: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        build(tokenizer, **options)


def test_names_in_other_scripts(data_root: Path) -> None:
    file = data_root / "tokenizer" / "beit3.spm"
    embeddings = build(file)
    names = ["Straße", "キリン", "γάτα", "кошка", "dog"]
    embeddings.set_classes(names)
    assert embeddings.classes == tuple(names)
    distances = torch.cdist(embeddings(), embeddings()) + torch.eye(5)
    assert distances.min() > 1e-3
