"""ROUGE-L of captions: their longest common subsequences with references (Lin, 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETA = 1.2  # weight of recall next to precision


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """ROUGE-L of each image: the F-measure of its best precision and its best recall.

    Args:
        candidates: The caption of each image, its words separated by single blanks.
        references: The references of each image.

    Returns:
        Scores (images,), 0 to 1.
    """
    return np.array([_score(*pair) for pair in zip(candidates, references, strict=True)])


def _score(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")
    masks: dict[str, int] = {}
    for place, word in enumerate(words):
        masks[word] = masks.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        others = reference.split(" ")
        common = _common_length(masks, len(words), others)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(others))
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common_length(masks: dict[str, int], length: int, others: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the bits of integers (Hyyro, 2004).

    Args:
        masks: For each word of the one text the bits of its places.
        length: How many words that text has.
        others: Words of the other.
    """
    every = (1 << length) - 1
    open_places = every
    for word in others:
        found = open_places & masks.get(word, 0)
        open_places = (open_places + found | open_places - found) & every
    return length - open_places.bit_count()
