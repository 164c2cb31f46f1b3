"""A small vocabulary of one's own for the tokenizer."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole


def train_tokenizer(texts: Iterable[str], file: str | Path, vocab_size: int = 256) -> Path:
    """Train a SentencePiece model; the same texts give the same bytes.

    Its pieces are joined from letters (BPE): of few words, the official file's way (unigram) keeps
    letters only.

    Args:
        texts (Iterable[str]): What to learn the pieces from.
        file (str | Path): Where the model goes.
        vocab_size (int): Pieces at most; fewer where the texts do not have as many. The embedding
            needs two rows more. Defaults to 256.

    Returns:
        Path: The file.

    Raises:
        InputError: There are no texts, or the number is too small for their letters.
    """
    content = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=content,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc",
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"no tokenizer of {vocab_size} pieces can be trained on these texts: {error}"
        ) from None
    write_whole(Path(file), content.getvalue())
    return Path(file)
