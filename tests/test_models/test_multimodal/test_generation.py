"""Captions word by word, next to a plain one that keeps nothing, and to the released procedure.

The oracles run torchscale's BEiT3 over the whole sequence at every step, one image for each beam.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from benchmarks.cases.tower import published_beit3
from mmbeit3.checkpoint import official_state_dict
from mmbeit3.models import BEiT3Multiway
from mmbeit3.models.multimodal.generation import Decoding, Found, Vocabulary, write_captions
from mmbeit3.utils.archs import resolve_arch

SMALL = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=80)
# arch, image size, patch size, vocabulary
SIZES = [
    (SMALL, 32, 8, 50),
    (dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=160), 48, 16, 33),
    ("tiny", 64, 16, 130),
]
SIZES = pytest.mark.parametrize("size", SIZES, ids=["small", "wide heads", "tiny"])
BEGIN, PAD, END, UNKNOWN = range(4)


class Captioner(nn.Module):
    """An encoder and a head with wide weights, so that captions differ and end anywhere."""

    def __init__(self, size: tuple, seed: int = 0, end: float = 0.0, **options) -> None:
        super().__init__()
        arch, img_size, patch, words = size
        self.size, self.mask_id = size, words - 4
        self.encoder = BEiT3Multiway(
            arch, img_size, patch, vocab_size=words, max_tokens=30, **options
        )
        self.head = nn.Linear(self.encoder.embed_dims, words)
        torch.manual_seed(seed)
        for param in self.parameters():
            std = 1.4 * self.encoder.embed_dims**-0.5
            nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=std)
        for table in (self.encoder.text.pos_embed, self.encoder.text.text_embed.weight):
            table.data.mul_(5)  # what comes next depends on words and place
        self.head.bias.data[END] += end
        self.vocabulary = Vocabulary(self.mask_id, (BEGIN, PAD, END, UNKNOWN, 7, 9, self.mask_id))
        self.eval()

    def images(self, count: int = 3, size: int | None = None) -> Tensor:
        side = size or self.size[1]
        generator = torch.Generator().manual_seed(3)
        colors = 4 * torch.randn(count, 3, 1, 1, generator=generator)
        return colors + torch.randn(count, 3, side, side, generator=generator)

    def write(self, images: Tensor, **options) -> list[Found]:
        options = dict(max_length=12) | options
        return write_captions(self.encoder, self.head, images, self.vocabulary, Decoding(**options))

    def log_probabilities(self, image: Tensor, ids: list[int], released: bool = False) -> Tensor:
        """(V,) of the next word, by one pass over everything."""
        ids = torch.tensor([[BEGIN, *ids, self.mask_id]])
        logits = self.head(self.encoder.encode_pair(image[None], ids, causal=True)[1][0, -1])
        if not released:
            logits[[BEGIN, PAD, UNKNOWN]] = -torch.inf
            logits[self.mask_id :] = -torch.inf
        return logits.log_softmax(-1)


@SIZES
@torch.no_grad()
def test_states_kept_equal_those_computed_anew(size: tuple) -> None:
    for options in ({}, dict(attention="shared", vl_layers=2)):
        model = Captioner(size, **options)
        encoder, images = model.encoder, model.images(2, size[1] + 2 * size[2])
        ids = torch.randint(0, size[3], (6, 9))  # three texts of each image
        image_states, states = encoder.encode_image_states(images), None
        for place in range(8):
            pair = torch.stack([ids[:, place], torch.full((6,), model.mask_id)], 1)
            found, states = encoder.encode_words(pair, image_states, states)
            states = [(k[:, :, :-1], v[:, :, :-1]) for k, v in states]
            whole = torch.cat([ids[:, : place + 1], pair[:, 1:]], 1)
            want = encoder.encode_pair(images.repeat_interleave(3, 0), whole, causal=True)[1]
            difference = (found - want[:, -2:]).abs().max() / want.abs().max()
            assert difference < 1e-5
        assert states[0][0].shape[2] == 8 and states[0][0].shape[0] == 6
        at_once, _ = encoder.encode_words(ids, image_states)  # many words in one call
        want = encoder.encode_pair(images.repeat_interleave(3, 0), ids, causal=True)[1]
        assert (at_once - want).abs().max() / want.abs().max() < 1e-5


def greedy(model: Captioner, image: Tensor, max_length: int) -> list[int]:
    """The most probable word each time, by a pass over everything for each."""
    ids: list[int] = []
    while len(ids) < max_length - 2:
        scores = model.log_probabilities(image, ids)
        if not ids or all(word in model.vocabulary.blank_ids for word in ids):
            scores[END] = -torch.inf
            if len(ids) == max_length - 3:
                scores[list(model.vocabulary.blank_ids)] = -torch.inf
        word = int(scores.argmax())
        if word == END:
            break
        ids.append(word)
    return ids


@SIZES
@torch.no_grad()
def test_one_beam_is_greedy_search(size: tuple) -> None:
    found = []
    for seed, end in enumerate((1.0, 1.0, 2.5, 4.0)):
        model = Captioner(size, seed, end)
        images = model.images(2, size[1] + size[2] * (seed % 2))
        for max_length in (3, 4, 9):
            want = [greedy(model, image, max_length) for image in images]
            assert [f.ids for f in model.write(images, beams=1, max_length=max_length)] == want
            found += want
    lengths = {len(ids) for ids in found}
    assert len(lengths) > 2 and min(lengths) == 1 and max(lengths) == 7


def all_captions(model: Captioner, image: Tensor, longest: int, penalty: float) -> dict:
    """Every caption there is, with its score by definition."""
    words = range(UNKNOWN + 1, model.mask_id)
    scores = {}
    for length in range(longest):
        for ids in itertools.product(words, repeat=length):
            scores[ids] = model.log_probabilities(image, list(ids)).tolist()
    found = {}
    for length in range(1, longest + 1):
        for ids in itertools.product(words, repeat=length):
            if all(word in model.vocabulary.blank_ids for word in ids):
                continue
            tokens = ids if length == longest else (*ids, END)
            total = sum(scores[ids[:place]][token] for place, token in enumerate(tokens))
            found[ids] = total / len(tokens) ** penalty
    return found


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@torch.no_grad()
def test_with_beams_for_all_the_best_of_all_captions_is_found(penalty: float) -> None:
    for seed in range(3):
        model = Captioner((SMALL, 16, 8, 12), seed)  # four words, of which one is blank
        images = model.images(2)
        options = dict(beams=100, max_length=5, length_penalty=penalty)
        for image, found in zip(images, model.write(images, **options), strict=True):
            captions = all_captions(model, image, 3, penalty)
            best = max(captions, key=captions.get)
            assert tuple(found.ids) == best
            assert found.score == pytest.approx(captions[best], abs=1e-5)


@SIZES
@pytest.mark.parametrize("released", [False, True])
@torch.no_grad()
def test_a_batch_finds_what_each_image_finds_alone(size: tuple, released: bool) -> None:
    differs = False
    ends = ((1, 0.5), (2, 2.5), (0, 2.0), (0, 1.0))  # captions of any length among them
    for (seed, end), beams in itertools.product(ends, (1, 3)):
        model = Captioner(size, seed, end)
        images = model.images(4)
        options = dict(beams=beams, released=released, max_length=8)
        together = model.write(images, **options)
        alone = [model.write(image[None], **options)[0] for image in images]
        assert [f.ids for f in together] == [f.ids for f in alone]
        for one, two in zip(together, alone, strict=True):
            assert one.score == pytest.approx(two.score, abs=1e-5)
        differs |= len({len(f.ids) for f in together}) > 1  # some left the batch before others
        assert model.write(images, **options) == together
    assert differs


@torch.no_grad()
def test_the_score_of_a_caption_is_that_of_its_words() -> None:
    model = Captioner(("tiny", 64, 16, 130), end=1.0)
    images = model.images(6)
    for beams, penalty, max_length in ((1, 0.6, 12), (3, 0.6, 12), (5, 1.0, 6), (2, 0.0, 4)):
        options = dict(beams=beams, length_penalty=penalty, max_length=max_length)
        for image, found in zip(images, model.write(images, **options), strict=True):
            assert 1 <= len(found.ids) <= max_length - 2
            words = [*found.ids, END] if len(found.ids) < max_length - 2 else found.ids
            total = sum(
                model.log_probabilities(image, words[:place])[word].item()
                for place, word in enumerate(words)
            )
            assert found.score == pytest.approx(total / len(words) ** penalty, abs=1e-4)


@torch.no_grad()
def test_what_is_no_word_is_not_written_and_no_caption_is_empty() -> None:
    model = Captioner((SMALL, 32, 8, 50), end=50.0)  # it wants to end at once
    model.head.bias.data[47] += 60  # or to write a row that no token has
    model.head.bias.data[model.mask_id] += 55
    blank = model.vocabulary.blank_ids
    images = model.images(4)
    for beams, max_length in ((1, 12), (3, 12), (3, 3), (4, 4)):
        for found in model.write(images, beams=beams, max_length=max_length):
            assert any(word not in blank for word in found.ids)
            assert all(UNKNOWN < word < model.mask_id for word in found.ids)
    model.head.bias.data[[7, 9]] += 100  # blank words above all
    for max_length in (3, 5):
        for found in model.write(images, max_length=max_length):
            assert any(word not in blank for word in found.ids)


def released_search(
    model: Captioner, theirs: nn.Module, image: Tensor, beams: int, penalty: float, longest: int
) -> tuple[list[int], float]:
    """The released procedure: stored captions end with the mask, and lose a word at the limit."""
    split = (model.size[1] // model.size[2]) ** 2 + 1
    rows = [([], 0.0 if beam == 0 else -1e9) for beam in range(beams)]
    best: tuple[float, list[int]] | None = None
    for length in range(2, longest):
        texts = torch.tensor([[BEGIN, *ids, model.mask_id] for ids, _ in rows])
        forbidden = torch.ones(split + length, split + length).triu(1).long()
        forbidden[:split, :split] = 0
        states = theirs(
            visual_tokens=image.expand(beams, -1, -1, -1),
            textual_tokens=texts,
            attn_mask=forbidden,
        )["encoder_out"]
        scores = model.head(states[:, -1]).log_softmax(-1)
        scores += torch.tensor([score for _, score in rows])[:, None]
        values, places = scores.flatten().topk(3 * beams)
        if best is not None and best[0] >= values[0].item() / (longest - 1) ** penalty:
            break
        going = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            ids, word = rows[place // scores.shape[1]][0], place % scores.shape[1]
            if word == END or length + 1 == longest:
                stored = [BEGIN, *ids, model.mask_id]
                score = value / len(stored) ** penalty
                if best is None or score > best[0]:
                    best = (score, ids)
            else:
                going.append(([*ids, word], value))
            if len(going) == beams:
                break
        rows = going
    return best[1], best[0]


@SIZES
@pytest.mark.parametrize("end", [0.0, 2.0, 30.0])
@torch.no_grad()
def test_the_released_search_is_an_option(size: tuple, end: float) -> None:
    pytest.importorskip(
        "torchscale", reason="needs torchscale: pip install --no-deps torchscale==0.3.0"
    )
    model = Captioner(size, 1, end)
    theirs = published_beit3(resolve_arch(size[0]), size[1], size[2], size[3], True).eval()
    state = official_state_dict(model.encoder.vision.state_dict())
    state |= official_state_dict(
        {**model.encoder.text.state_dict(), "pos_embed": padded(model)}, "B"
    )
    theirs.load_state_dict({name.removeprefix("beit3."): value for name, value in state.items()})
    images = model.images(4)
    for beams, penalty, max_length in ((3, 0.6, 12), (1, 0.6, 9), (4, 0.0, 4), (2, 1.5, 7)):
        options = dict(beams=beams, length_penalty=penalty, max_length=max_length, released=True)
        for image, found in zip(images, model.write(images, **options), strict=True):
            ids, score = released_search(model, theirs, image, beams, penalty, max_length)
            assert found.ids == ids
            assert found.score == pytest.approx(score, rel=1e-4, abs=1e-5)


def padded(model: Captioner) -> Tensor:
    """Positions of texts in as many rows as the released table has."""
    table = model.encoder.text.pos_embed
    return nn.functional.pad(table, (0, 0, 0, 1022 - table.shape[1]))


@torch.no_grad()
def test_a_released_caption_can_be_empty_and_lacks_a_word_at_the_limit() -> None:
    model = Captioner((SMALL, 32, 8, 50), end=30.0)
    assert all(found.ids == [] for found in model.write(model.images(), released=True))
    model = Captioner((SMALL, 32, 8, 50), end=-90.0)  # it never ends
    own, released = (model.write(model.images(), max_length=7, released=r) for r in (False, True))
    assert [len(found.ids) for found in own] == [5, 5, 5]
    assert [len(found.ids) for found in released] == [4, 4, 4]
    model.head.bias.data[48] += 60
    assert 48 in model.write(model.images(), released=True)[0].ids
    assert 48 not in model.write(model.images())[0].ids


def test_nothing_is_kept_in_modules() -> None:
    model = Captioner((SMALL, 32, 8, 50))
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model.write(model.images())
    model.write(model.images(2))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert not list(model.buffers())


@torch.no_grad()
def test_an_image_is_encoded_once_whatever_the_number_of_beams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batches = Captioner((SMALL, 32, 8, 50)), []
    encode = model.encoder.encode_image_states
    monkeypatch.setattr(
        model.encoder, "encode_image_states", lambda x: batches.append(len(x)) or encode(x)
    )
    model.write(model.images(2), beams=5)
    assert batches == [2]
