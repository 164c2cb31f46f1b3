"""The tokenizer of BEiT-3: a SentencePiece model with the ids of the published network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular

# The official file and where the authors keep it.
ADDRESS = "https://github.com/addf400/files/releases/download/beit3/beit3.spm"
SHA256 = "6f5e2fefcf793761a76a6bfb8ad35489f9c203b25557673284b6d032f41043f4"
OFFICIAL = f"the official file is {ADDRESS} (SHA-256 {SHA256})"
SHAPES_TOKENIZER = "captions.spm"  # the name that make-shapes gives its own
# In front of its own pieces, which begin with unknown, begin and end, the network has these.
BEGIN, PADDING, END, UNKNOWN = range(4)
SHIFT = 1
# Embeddings may be rounded up, to a multiple of 64 at most; the official one has 8 rows to spare.
SPARE = 64


class Tokenizer:
    """Ids of texts as BEiT-3 knows them: those of fairseq, as XLM-R has them.

    ``<s>`` is 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3; piece i of the file, from 3 on, is i + 1;
    ``<mask>`` follows after the last piece: 64001 with the official file. A text that contains such
    a sign, ``<mask>`` for example, contains these letters and no special token.

    Args:
        file (str | Path): A SentencePiece model: the official ``beit3.spm``, or an own one trained
            with ``unk_id=0, bos_id=1, eos_id=2, pad_id=-1``.
        max_length (int): Most tokens of a text, begin and end among them; what is longer is cut
            before the end. Defaults to 64, that of the released code.
        vocab_size (int, optional): ``vocab_size`` of the model that the ids are for, to be told at
            once where it is of another vocabulary. Defaults to None, not compared.

    Raises:
        InputError: The file is absent or no SentencePiece model, its special pieces stand
            elsewhere, its ids do not fit ``vocab_size``, or ``max_length`` is below 3.
    """

    def __init__(
        self, file: str | Path, max_length: int = 64, vocab_size: int | None = None
    ) -> None:
        if max_length < 3:
            raise InputError(f"max_length is {max_length}; expected 3 at least: begin, word, end")
        self.file = str(file)
        self.max_length = max_length
        self._pieces = _read(self.file)
        self.mask_id = self._pieces.get_piece_size() + SHIFT
        if vocab_size is not None:
            self.check_vocab_size(vocab_size)

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: 64,002 with the official file, whose network has 64,010."""
        return self.mask_id + 1

    def check_vocab_size(self, vocab_size: int) -> None:
        """Make sure that an embedding is of this vocabulary, as far as its size tells.

        Args:
            vocab_size (int): Rows of the embedding.

        Raises:
            InputError: They are fewer than the ids, or many more.
        """
        needed = self.vocab_size
        if not needed <= vocab_size < needed + SPARE:
            raise InputError(
                f"the tokenizer {self.file} has {needed} ids and the model's embedding "
                f"{vocab_size} rows; expected {needed}, or up to {SPARE - 1} more: take the "
                "tokenizer that the model was trained with, or set the model's vocab_size; for "
                f"released weights {OFFICIAL}"
            )

    def check_fits(self, vocab_size: int, max_tokens: int) -> None:
        """Make sure that a text encoder can take what this tokenizer makes.

        Args:
            vocab_size (int): Rows of its embedding.
            max_tokens (int): Rows of its positions.

        Raises:
            InputError: The embedding is of another vocabulary, or texts can be longer.
        """
        self.check_vocab_size(vocab_size)
        if self.max_length > max_tokens:
            raise InputError(
                f"the tokenizer's max_length is {self.max_length} and the encoder has "
                f"{max_tokens} positions of text; expected no more: lower max_length, or raise the "
                "encoder's max_tokens"
            )

    @cached_property
    def blank_ids(self) -> tuple[int, ...]:
        """Ids that make no text by themselves: special ones, and white space."""
        pieces = range(END + 1, self._pieces.get_piece_size())
        blank = (
            piece + SHIFT
            for piece in pieces
            if self._pieces.is_control(piece) or not self._pieces.decode([piece]).strip()
        )
        return (*range(UNKNOWN + 1), *blank, self.mask_id)

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids.

        Args:
            text (str): The text. Case is kept, white space at ends and in a row is not.

        Returns:
            list[int]: Begin, the text, end; ``max_length`` at most.

        Raises:
            InputError: There is no text, or it has half a character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text {text!r:.200} has half a character (a lone surrogate); write it anew"
            ) from error
        pieces = self._pieces.encode(text)
        if not pieces:
            raise InputError(f"the text {text!r} is empty; expected a word at least: leave it out")
        ids = [UNKNOWN if piece < END + 1 else piece + SHIFT for piece in pieces]
        return [BEGIN, *ids[: self.max_length - 2], END]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts, begin and end among them, before anything is cut.

        Args:
            texts (Sequence[str]): The texts.
        """
        return [len(pieces) + 2 for pieces in self._pieces.encode(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into a text; special tokens and rows without a piece are left out.

        Args:
            ids (Iterable[int]): As :meth:`encode` returns them, or of a network.

        Returns:
            str: The text.
        """
        pieces = (int(index) for index in ids)
        return self._pieces.decode([i - SHIFT for i in pieces if UNKNOWN < i < self.mask_id])

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Turn texts into what the models take, as wide as the longest of them.

        Args:
            texts (Sequence[str]): B texts.

        Returns:
            tuple[Tensor, Tensor]: (B, N) int64 ids; (B, N) bool padding mask, True at padding.

        Raises:
            InputError: One of them is empty.
        """
        return _padded([self.encode(text) for text in texts])

    def batches(
        self, texts: Sequence[str], size: int = 256
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Turn many texts into batches of like lengths, of which little is padding.

        Args:
            texts (Sequence[str]): The texts.
            size (int): Texts in a batch. Defaults to 256.

        Yields:
            tuple[list[int], Tensor, Tensor]: The places of B texts in the list, and their ids and
            padding mask as :meth:`batch` makes them; the shortest texts first.

        Raises:
            InputError: One of them is empty.
        """
        rows = [self.encode(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield places, *_padded([rows[place] for place in places])


def _padded(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids of texts as one tensor (B, N), and where it is padding."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, PADDING)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(ids.shape[1]) >= lengths[:, None]


def _read(file: str) -> sentencepiece.SentencePieceProcessor:
    if not Path(file).exists():
        made = "mmbeit3 make-shapes writes it, beside its pictures"
        cure = made if Path(file).name == SHAPES_TOKENIZER else OFFICIAL
        raise InputError(f"there is no tokenizer at {file}: {cure}")
    check_regular(file, "the tokenizer")
    reason = "it is no SentencePiece model"
    try:
        # By content: the C++ reader would take no name that is not of the file system's encoding.
        pieces = sentencepiece.SentencePieceProcessor(model_proto=Path(file).read_bytes())
        is_model = pieces.get_piece_size() > 0
    except (OSError, RuntimeError) as error:
        is_model, reason = False, getattr(error, "strerror", None) or reason
    if not is_model:
        raise InputError(f"the tokenizer {file} cannot be read: {reason}; {OFFICIAL}")
    found = (pieces.unk_id(), pieces.bos_id(), pieces.eos_id(), pieces.pad_id())
    if found != (0, 1, 2, -1):
        raise InputError(
            f"the tokenizer {file} has unknown, begin, end and padding at {found}; expected "
            "(0, 1, 2, -1): train it with unk_id=0, bos_id=1, eos_id=2, pad_id=-1"
        )
    return pieces
