"""Writing captions word by word: greedy and beam search over the fusion encoder.

A word is found as in training: ``<mask>`` stands in its place and is guessed from the image and the
words before. An image is encoded once, whatever the number of beams; words are encoded once each,
and their keys and values kept in what is passed along here, never in modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmbeit3.models.multimodal.multiway import BEiT3Multiway, States
from mmbeit3.text.tokenizer import BEGIN, END, PADDING, UNKNOWN
from mmbeit3.utils import InputError


@dataclass(frozen=True)
class Decoding:
    """How captions are searched.

    At each step every open beam is continued by every token, and the ``beams`` best continuations
    that do not end stay open. One that ends, or is as long as may be, is a result if it is among
    the ``beams`` best of the step. A search is over with ``beams`` results, or when no open beam
    can become better than the best result. One beam is greedy search.

    Attributes:
        beams (int): Open beams of an image. Defaults to 3, as released.
        length_penalty (float): A result's score is the sum of the logarithms of its probabilities,
            divided by the number of its tokens, with the end, to this power. Defaults to 0.6, as
            released.
        max_length (int): Most tokens, begin and end among them, as of a tokenizer. Defaults to 64,
            that of the released evaluation.
        released (bool): Search as the released code does, of which captions differ seldom and
            scores by some percent: all rows of the embedding can be produced and share the
            probability, special ones and those of no token too; a caption can be empty; an end
            counts even behind the best beams, as long as an open one is behind it, and results can
            be any number; the length is that of the words and 2 more; at ``max_length`` the last
            word counts in the score and is not in the caption. Defaults to False.

    Raises:
        InputError: A value is out of range.
    """

    beams: int = 3
    length_penalty: float = 0.6
    max_length: int = 64
    released: bool = False

    def __post_init__(self) -> None:
        for name, least, kind in (
            ("beams", 1, Integral),
            ("length_penalty", 0, Real),
            ("max_length", 3, Integral),
        ):
            value = getattr(self, name)
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if not (is_number and least <= value < float("inf")):
                whole = "a whole number of " if kind is Integral and not is_number else ""
                raise InputError(
                    f"{name} of the generation is {value!r}; expected {whole}{least} or more"
                )

    def changed(self, **options: Any) -> Decoding:
        """The same with other options.

        Raises:
            InputError: There is no such option, or a value is out of range.
        """
        known = [field.name for field in fields(self)]
        for name in options:
            if name not in known:
                raise InputError(
                    f"generation has no option {name!r}; expected {', '.join(known[:-1])} or "
                    f"{known[-1]}"
                )
        return replace(self, **options)


class Vocabulary(NamedTuple):
    """What a search has to know of the tokens.

    Attributes:
        mask_id: Id of ``<mask>``, the last one that has a meaning.
        blank_ids: Tokens that alone make no text.
    """

    mask_id: int
    blank_ids: tuple[int, ...] = ()


class Found(NamedTuple):
    """A caption as tokens.

    Attributes:
        ids: Its words, without begin and end.
        score: Its score, see :class:`Decoding`.
    """

    ids: list[int]
    score: float


@torch.no_grad()
def write_captions(
    encoder: BEiT3Multiway,
    head: Callable[[Tensor], Tensor],
    images: Tensor,
    vocabulary: Vocabulary,
    decoding: Decoding,
) -> list[Found]:
    """Find the best caption of each image.

    Args:
        encoder (BEiT3Multiway): The encoder.
        head (Callable): States (M, C) of tokens -> logits (M, V).
        images (Tensor): (B, in_channels, H, W), normalized.
        vocabulary (Vocabulary): What the tokens are.
        decoding (Decoding): How to search.

    Returns:
        list[Found]: B captions.
    """
    beams, limit = decoding.beams, decoding.max_length - 2
    image_states = encoder.encode_image_states(images)
    searches = [_Search(decoding) for _ in range(len(images))]
    open_ = list(searches)
    states: States | None = None
    last_words = [BEGIN] * len(images) * beams
    for length in range(1, limit + 1):
        ids = torch.tensor([[word, vocabulary.mask_id] for word in last_words])
        x, states = encoder.encode_words(ids.to(images.device), image_states, states)
        scores = _log_probabilities(head(x[:, 1]), vocabulary, decoding.released)
        if not decoding.released:
            blank = torch.tensor([not b.shows for s in open_ for b in s.beams], device=x.device)
            _forbid_the_end(scores, blank, vocabulary, length == limit)
        before = [beam.score for search in open_ for beam in search.beams]
        scores += torch.tensor(before, device=x.device)[:, None]
        scores = scores.view(len(open_), -1)
        # As released, so many that enough are left when all beams end; two would do.
        best = scores.topk(min(3 * beams, scores.shape[1]), 1)
        rows: list[int] = []
        still: list[int] = []
        width = scores.shape[1] // beams
        for index, (values, places) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            candidates = [
                _Candidate(value, *divmod(place, width))
                for value, place in zip(values, places, strict=True)
                if value > float("-inf")
            ]
            parents = open_[index].advance(candidates, length, vocabulary)
            if parents:
                still.append(index)
                rows += [index * beams + parent for parent in parents]
        if not still:
            break
        if len(still) < len(open_):  # the finished leave the batch
            open_ = [open_[index] for index in still]
            kept = torch.tensor(still, device=x.device)
            image_states = [(k[kept], v[kept]) for k, v in image_states]
        last_words = [beam.ids[-1] for search in open_ for beam in search.beams]
        kept = torch.tensor(rows, device=x.device)
        states = [(k[kept, :, :-1], v[kept, :, :-1]) for k, v in states]  # without the masks
    return [search.best for search in searches]


class _Candidate(NamedTuple):
    score: float
    beam: int
    word: int


class _Beam(NamedTuple):
    ids: list[int]
    score: float
    shows: bool


class _Search:
    """The beams of an image, and the best caption so far."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        # All are alike at first: only one is continued.
        self.beams = [
            _Beam([], 0.0 if index == 0 else float("-inf"), False)
            for index in range(decoding.beams)
        ]
        self.best = Found([], float("-inf"))
        self.results = 0

    def advance(
        self, candidates: list[_Candidate], length: int, vocabulary: Vocabulary
    ) -> list[int]:
        """Take a step: the best candidates, sorted, to be the word at a place.

        Returns:
            The beams, by number, that the new ones go on from; empty where the search is over.
        """
        size, released = self.decoding.beams, self.decoding.released
        limit = self.decoding.max_length - 2
        is_last = length == limit
        if released and self._is_over(candidates[0].score, limit + 1):
            return []
        going: list[_Candidate] = []
        for rank, candidate in enumerate(candidates):
            ends = candidate.word == END
            if not (ends or is_last):
                going.append(candidate)
            elif released:
                self._close(self.beams[candidate.beam].ids, candidate.score, length + 1)
            elif rank < size:
                words = [] if ends else [candidate.word]
                self._close(self.beams[candidate.beam].ids + words, candidate.score, length)
            if len(going) == size:
                break
        if not going:
            return []
        if not released and (self.results >= size or self._is_over(going[0].score, limit)):
            return []
        beams = []
        for score, beam, word in going:
            parent = self.beams[beam]
            shows = parent.shows or word not in vocabulary.blank_ids
            beams.append(_Beam([*parent.ids, word], score, shows))
        missing = size - len(beams)  # of a vocabulary of a few tokens
        self.beams = beams + [beams[0]._replace(score=float("-inf"))] * missing
        return [candidate.beam for candidate in going] + [going[0].beam] * missing

    def _close(self, ids: list[int], score: float, length: int) -> None:
        score /= length**self.decoding.length_penalty
        self.results += 1
        if self.results == 1 or score > self.best.score:
            self.best = Found(ids, score)

    def _is_over(self, score: float, longest: int) -> bool:
        """Whether a beam of this score cannot become better than the best result."""
        return self.results > 0 and self.best.score >= score / longest**self.decoding.length_penalty


def _log_probabilities(logits: Tensor, vocabulary: Vocabulary, all_rows: bool) -> Tensor:
    """(M, V) logits -> logarithms of probabilities, of what can be written alone."""
    logits = logits.float()
    if not all_rows:
        logits[:, [BEGIN, PADDING, UNKNOWN]] = float("-inf")
        logits[:, vocabulary.mask_id :] = float("-inf")
    return logits.log_softmax(-1)


def _forbid_the_end(scores: Tensor, blank: Tensor, vocabulary: Vocabulary, is_last: bool) -> None:
    """Keep beams (M,) that show nothing yet from being closed so: no caption is empty."""
    scores[blank, END] = float("-inf")
    if is_last and vocabulary.blank_ids:
        rows = blank.nonzero()  # (K, 1)
        scores[rows, torch.tensor(vocabulary.blank_ids, device=scores.device)] = float("-inf")
