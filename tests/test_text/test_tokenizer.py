"""Ids of texts, with a small vocabulary of our own and with the official file where it is."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece
import torch

from mmbeit3.models import BEiT3Text
from mmbeit3.text import Tokenizer
from mmbeit3.text.tokenizer import SHA256
from mmbeit3.utils import InputError
from tests.small_tokenizer import train

SPECIAL = ("<s>", "</s>", "<unk>", "<pad>", "<mask>")


@pytest.fixture
def small(tokenizer_file: Path) -> Path:
    return tokenizer_file


@pytest.fixture(scope="module")
def official(data_root: Path) -> Path:
    file = data_root / "tokenizer" / "beit3.spm"
    if not file.is_file():
        pytest.skip(f"the official tokenizer is not at {file}")
    return file


def test_ids_are_pieces_shifted_between_begin_and_end(small: Path) -> None:
    tokenizer = Tokenizer(small)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=small.read_bytes())
    assert tokenizer.mask_id == len(pieces) + 1 and tokenizer.vocab_size == len(pieces) + 2
    for text in ("The red circle", "two large stars on the left", "a"):
        ids = tokenizer.encode(text)
        assert ids[0] == 0 and ids[-1] == 2
        assert ids[1:-1] == [piece + 1 for piece in pieces.encode(text)]
        assert tokenizer.decode(ids) == text
    assert 3 in tokenizer.encode("a \u732b") and max(tokenizer.encode("a \u732b")) < len(pieces)


@pytest.mark.parametrize("sign", SPECIAL)
def test_special_tokens_in_a_text_stay_text(small: Path, sign: str) -> None:
    tokenizer = Tokenizer(small)
    ids = tokenizer.encode(f"the {sign} circle")
    assert not {0, 1, 2, tokenizer.mask_id} & set(ids[1:-1])
    assert len(ids) > len(tokenizer.encode("the circle")) + 1


def test_long_texts_are_cut_before_the_end(small: Path) -> None:
    ids = Tokenizer(small, max_length=200).encode("circle " * 90)
    for length in (3, 7, 64):
        assert Tokenizer(small, length).encode("circle " * 90) == [*ids[: length - 1], 2]


def test_what_a_network_adds_is_left_out_of_a_text(small: Path) -> None:
    tokenizer = Tokenizer(small)
    ids = [0, *tokenizer.encode("the star")[1:-1], tokenizer.mask_id, 2, 1, 1, 9999]
    assert tokenizer.decode(torch.tensor(ids)) == "the star"
    assert tokenizer.decode([0, 1, 2, 3]) == ""


def test_batches_are_as_wide_as_their_longest_text(small: Path) -> None:
    tokenizer = pickle.loads(pickle.dumps(Tokenizer(small)))  # as a worker of a loader gets it
    texts = ["the star", "two large squares on the left", "a"]
    ids, padding = tokenizer.batch(texts)
    assert ids.shape == padding.shape == (3, max(len(tokenizer.encode(text)) for text in texts))
    for row, pad, text in zip(ids, padding, texts, strict=True):
        assert row[~pad].tolist() == tokenizer.encode(text) and (row[pad] == 1).all()
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    model = BEiT3Text(arch, vocab_size=tokenizer.vocab_size)
    assert model(ids, padding).shape == (*ids.shape, 16)


def test_what_is_no_tokenizer_is_named(small: Path, tmp_path: Path) -> None:
    rows = Tokenizer(small).vocab_size
    for size in (rows, rows + 8):
        Tokenizer(small, vocab_size=size)
    for size in (rows - 1, 64010):
        with pytest.raises(InputError, match=f"has {rows} ids and .* {size} rows.*{SHA256}"):
            Tokenizer(small, vocab_size=size)
    with pytest.raises(InputError, match=f"no tokenizer at .*absent.spm.*https://.*{SHA256}"):
        Tokenizer(tmp_path / "absent.spm")
    with pytest.raises(InputError, match=r"captions.spm: mmbeit3 make-shapes writes it"):
        Tokenizer(tmp_path / "captions.spm")
    for content in (b"", b"not a model", small.read_bytes()[:100]):
        (tmp_path / "other.spm").write_bytes(content)
        with pytest.raises(InputError, match="other.spm cannot be read: it is no SentencePiece"):
            Tokenizer(tmp_path / "other.spm")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        Tokenizer(tmp_path)
    other = train(tmp_path / "ids.spm", unk_id=3, pad_id=0)
    with pytest.raises(InputError, match=r"at \(3, 1, 2, 0\); expected \(0, 1, 2, -1\)"):
        Tokenizer(other)
    for text in ("", "  \n"):
        with pytest.raises(InputError, match="is empty"):
            Tokenizer(small).encode(text)
    with pytest.raises(InputError, match="max_length is 2"):
        Tokenizer(small, 2)


def test_the_official_ids(official: Path) -> None:
    assert hashlib.sha256(official.read_bytes()).hexdigest() == SHA256
    tokenizer = Tokenizer(official, vocab_size=64010)
    assert tokenizer.vocab_size == 64002 and tokenizer.mask_id == 64001
    text = "This is photo of a dog"
    assert tokenizer.encode(text) == [0, 127, 18, 1127, 9, 10, 1152, 2]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    first = ["the", ".", ",", "to", "and", "of", "a"]
    found = [tokenizer.decode([index]) for index in range(4, 11)]
    assert found == first
    assert tokenizer.encode("\u732b")[2:] == [3, 2]  # a word sign, unknown
    assert tokenizer.encode("Dog") != tokenizer.encode("dog")
    for sign in SPECIAL:
        assert not {0, 1, 2, 3, 64001} & set(tokenizer.encode(sign)[1:-1])


def test_captions_come_back_from_the_official_ids(official: Path, data_root: Path) -> None:
    files = sorted(data_root.glob("*/annotations/captions_*.json"))
    captions = [
        entry["caption"]
        for file in files
        for entry in json.loads(file.read_text(encoding="utf-8"))["annotations"]
    ]
    if not captions:
        pytest.skip(f"no captions in {data_root}")
    tokenizer = Tokenizer(official)
    lengths = []
    for caption in captions:
        ids = tokenizer.encode(caption)
        lengths.append(len(ids))
        assert tokenizer.decode(ids) == " ".join(caption.split())
    assert max(lengths) < 64
    print(f"{len(captions)} captions, {sum(lengths) / len(lengths):.1f} tokens, {max(lengths)} max")
