"""Recall at k of image-text retrieval, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmbeit3.utils import InputError

KS = (1, 5, 10)
MAX_STORED = 160_000_000  # scores (640 MB) up to which they are computed once and kept
COMPARED = 1_000_000  # scores that are compared at a time: they stay in the processor's cache
COMPUTED = 16_000_000  # scores that are computed at a time where they are not kept

Block = Callable[[int, int], Tensor]
"""Gives the scores (stop - start, T) of the images start to stop; the same at each call."""


def recall_names(ks: Sequence[int] = KS) -> list[str]:
    """The names of the metrics in their order: ``TR@1``, ..., ``IR@1``, ..., ``mean_recall``."""
    return [*(f"{kind}@{k}" for kind in ("TR", "IR") for k in ks), "mean_recall"]


def retrieval_recall(
    scores: Tensor | np.ndarray,
    pairs: Tensor | np.ndarray | Sequence[Sequence[int]],
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """Measure the recall at k of retrieval from its scores.

    Text retrieval (TR): an image counts if any of its texts is among the k texts with the highest
    scores. Image retrieval (IR): a text counts if any of its images is among the k images with the
    highest scores. Where scores are equal, what does not belong to the query comes first: a model
    gets nothing for what it cannot tell apart, and the order of the data does not matter.

    Args:
        scores: (I, T), of I images and T texts.
        pairs: (P, 2), the row and the column of each image and text that belong together; of any
            number for an image and for a text. One that is in none is no query, but a candidate.
        ks: The numbers k. Defaults to (1, 5, 10).

    Returns:
        In percent, ``TR@k`` and ``IR@k`` for each k, and ``mean_recall``, the mean of all of them.

    Raises:
        InputError: Shapes do not fit, a pair is outside of the scores, or a score is NaN.
    """
    scores, pairs = torch.as_tensor(scores), torch.as_tensor(pairs)
    if scores.ndim != 2 or pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise InputError(
            f"scores have the shape {tuple(scores.shape)} and pairs {tuple(pairs.shape)}; expected "
            "(images, texts) and (pairs, 2), one pair at least"
        )
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    return _recall(lambda start, stop: scores[start:stop], tuple(scores.shape), pairs, ks)


def feature_recall(
    images: Tensor, texts: Tensor, pairs: Tensor, ks: Sequence[int] = KS
) -> dict[str, float]:
    """Measure the recall at k of features; their products, in float32, are the scores.

    Args:
        images: (I, D) float32.
        texts: (T, D) float32.
        pairs: As in :func:`retrieval_recall`.
        ks: See there. Defaults to (1, 5, 10).

    Returns:
        See there.
    """
    block, rows = _products(images, texts)
    return _recall(block, (len(images), len(texts)), pairs, ks, rows)


class Ranks(NamedTuple):
    """Where right candidates are, and which come first.

    Attributes:
        of_images (Tensor): (I,), how many wrong texts come before each image's best own text.
        of_texts (Tensor): (T,), how many wrong images come before each text's best own image.
        first_texts (Tensor): (I,), the text with the highest score.
        first_images (Tensor): (T,), the image with the highest score.
    """

    of_images: Tensor
    of_texts: Tensor
    first_texts: Tensor
    first_images: Tensor


def feature_ranks(images: Tensor, texts: Tensor, pairs: Tensor) -> Ranks:
    """Rank by features; arguments as :func:`feature_recall`, all images and texts in a pair."""
    block, rows = _products(images, texts)
    _, _, of_images, of_texts = _ahead(block, (len(images), len(texts)), pairs, rows)
    first_texts = torch.empty(len(images), dtype=torch.long)
    first_images = torch.zeros(len(texts), dtype=torch.long)
    highest = torch.full((len(texts),), -torch.inf)
    for start in range(0, len(images), rows):
        scores = block(start, min(start + rows, len(images)))
        first_texts[start : start + rows] = scores.argmax(1)
        values, places = scores.max(0)
        first_images = torch.where(values > highest, places + start, first_images)
        highest = torch.maximum(highest, values)
    return Ranks(of_images.long(), of_texts.long(), first_texts, first_images)


def _products(images: Tensor, texts: Tensor) -> tuple[Block, int]:
    """The scores of features, and of how many images they are computed at a time."""
    if len(images) * len(texts) <= MAX_STORED:
        scores = images @ texts.T
        return lambda start, stop: scores[start:stop], len(images)
    rows = max(1, COMPUTED // len(texts))
    kept: dict[int, Tensor] = {}

    def block(start: int, stop: int) -> Tensor:
        number = start // rows
        if number not in kept:
            kept.clear()
            kept[number] = images[number * rows : (number + 1) * rows] @ texts.T
        return kept[number][start - number * rows : stop - number * rows]

    return block, rows


def _recall(
    block: Block,
    shape: tuple[int, int],
    pairs: Tensor,
    ks: Sequence[int],
    computed: int | None = None,
) -> dict[str, float]:
    """Measure the recall of both ways; arguments as :func:`_ahead`."""
    images, texts, ahead_of_text, ahead_of_image = _ahead(block, shape, pairs, computed)
    ranks = ahead_of_text[images.unique()], ahead_of_image[texts.unique()]
    recalls = [100 * (rank < k).double().mean().item() for rank in ranks for k in ks]
    return dict(zip(recall_names(ks), [*recalls, sum(recalls) / len(recalls)], strict=True))


def _ahead(
    block: Block, shape: tuple[int, int], pairs: Tensor, computed: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count, for each query, the wrong candidates whose score its best right one does not exceed.

    Args:
        block: The scores.
        shape: Numbers of images and texts.
        pairs: See :func:`retrieval_recall`.
        computed: Images that are scored at a time, which no block may reach across. Defaults to
            None: all.

    Returns:
        Images and texts of the pairs (P,), and the counts of all images and of all texts.
    """
    images, texts = _in_order(pairs, shape).T.contiguous()
    starts = _starts(shape, computed)
    stops = [*starts[1:], shape[0]]
    own = []
    for start, stop in zip(starts, stops, strict=True):
        scores = block(start, stop)
        if scores.sum().isnan():
            rows = scores.isnan().any(1).nonzero()[:, 0] + start
            if len(rows):
                raise InputError(
                    f"image {int(rows[0])} has scores that are NaN: did the model diverge?"
                )
        first, last = torch.searchsorted(images, torch.tensor([start, stop])).tolist()
        own.append(scores[images[first:last] - start, texts[first:last]])
    values = torch.cat(own)  # the score of each pair
    best_text = _best(values, images, shape[0])  # of each image
    best_image = _best(values, texts, shape[1])  # of each text
    ahead_of_text, ahead_of_image = torch.zeros(shape[0]), torch.zeros(shape[1])
    for start, stop in zip(starts, stops, strict=True):
        scores = block(start, stop)
        is_ahead = torch.empty_like(scores)  # float: summed much faster than bool
        torch.ge(scores, best_text[start:stop, None], out=is_ahead)
        ahead_of_text[start:stop] = is_ahead.sum(1)
        torch.ge(scores, best_image, out=is_ahead)
        ahead_of_image += is_ahead.sum(0)
    # What belongs to the query is not ahead of itself.
    ahead_of_text.index_add_(0, images, -(values >= best_text[images]).to(ahead_of_text))
    ahead_of_image.index_add_(0, texts, -(values >= best_image[texts]).to(ahead_of_image))
    return images, texts, ahead_of_text, ahead_of_image


def _in_order(pairs: Tensor, shape: tuple[int, int]) -> Tensor:
    """The pairs, each once, by image."""
    pairs = pairs.long().cpu()
    for kind, column, number in zip(("image", "text"), pairs.unbind(1), shape, strict=True):
        wrong = column[(column < 0) | (column >= number)]
        if len(wrong):
            raise InputError(
                f"{len(wrong)} pairs name an {kind} that has no scores, such as {int(wrong[0])}; "
                f"expected 0 to {number - 1}"
            )
    return pairs.unique(dim=0)


def _starts(shape: tuple[int, int], computed: int | None) -> list[int]:
    """Where blocks of images begin."""
    rows = max(1, COMPARED // max(1, shape[1]))
    computed = computed or shape[0]
    return [
        start
        for first in range(0, shape[0], computed)
        for start in range(first, min(first + computed, shape[0]), rows)
    ]


def _best(values: Tensor, queries: Tensor, number: int) -> Tensor:
    """The best score of each query's own candidates; of one that has none it is not used."""
    best = torch.full((number,), -torch.inf, dtype=values.dtype)
    return best.scatter_reduce_(0, queries, values, "amax")
