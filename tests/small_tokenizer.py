"""A SentencePiece model of a few made-up sentences, with the official file's settings."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

WORDS = (
    *("a", "the", "red", "blue", "green", "large", "small", "square", "circle", "star"),
    *("on", "in", "left", "of", "right", "two", "three", "and", "above", "below"),
)


def sentences() -> list[str]:
    """400 sequences of 3 to 9 words."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))).capitalize() for _ in range(400)]


def train(
    file: Path, texts: Iterable[str] | None = None, pieces: int = 120, **options: int
) -> Path:
    """Train a tokenizer.

    Args:
        file: Where to write it.
        texts: What it learns from. Defaults to None, :func:`sentences`.
        pieces: Most pieces of its vocabulary. Defaults to 120.
        **options: Other ids of its special pieces.
    """
    content = io.BytesIO()
    ids = dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts or sentences()),
        model_writer=content,
        vocab_size=pieces,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids | options,
    )
    file.write_bytes(content.getvalue())
    return file
