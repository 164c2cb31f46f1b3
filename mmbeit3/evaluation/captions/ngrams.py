"""N-grams of candidates and references, counted for all images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_N = 4
Array = np.ndarray


@dataclass(frozen=True)
class NGrams:
    """N-grams of one length, a row for each that a caption has.

    Attributes:
        candidate: Image of each row of the candidates (C,).
        candidate_gram: Number of its n-gram (C,).
        candidate_count: How often the candidate has it (C,).
        reference: Number of the reference of each row of the references (R,).
        reference_gram: Number of its n-gram (R,).
        reference_count: How often the reference has it (R,).
        in_both: Rows of the references whose n-gram the candidate of their image has, too (B,).
        row_in_candidates: Which row of the candidates that is (B,).
    """

    candidate: Array
    candidate_gram: Array
    candidate_count: Array
    reference: Array
    reference_gram: Array
    reference_count: Array
    in_both: Array
    row_in_candidates: Array


@dataclass(frozen=True)
class CountedCaptions:
    """A candidate and references of each image, as numbers.

    Attributes:
        image_of: Image of each reference (references,).
        candidate_lengths: Words of each candidate (images,).
        reference_lengths: Words of each reference (references,).
        ngrams: Those of 1 to 4 words.
    """

    image_of: Array
    candidate_lengths: Array
    reference_lengths: Array
    ngrams: list[NGrams]


def count_ngrams(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> CountedCaptions:
    """Count the n-grams of 1 to 4 words.

    Args:
        candidates: The caption of each image, its words separated by blanks.
        references: The references of each image.
    """
    num_images = len(candidates)
    image_of = np.repeat(np.arange(num_images), [len(texts) for texts in references])
    captions = [text.split() for texts in (candidates, *references) for text in texts]
    lengths = np.array([len(words) for words in captions], dtype=np.int64)
    numbers: dict[str, int] = {}
    words = np.array(
        [numbers.setdefault(word, len(numbers)) for words in captions for word in words], np.int64
    )
    caption_of = np.repeat(np.arange(len(captions)), lengths)
    grams: Array = words
    starts: Array = np.arange(len(words))
    ngrams = []
    for length in range(1, MAX_N + 1):
        if length > 1:
            # Starts whose n-gram ends inside its caption; an n-gram is a shorter one and a word.
            inside = starts + length - 1 < len(words)
            inside[inside] = caption_of[starts[inside]] == caption_of[starts[inside] + length - 1]
            starts = starts[inside]
            grams = grams[inside] * len(numbers) + words[starts + length - 1]
            _, grams = np.unique(grams, return_inverse=True)
        ngrams.append(_count(caption_of[starts], grams, image_of, num_images))
    return CountedCaptions(image_of, lengths[:num_images], lengths[num_images:], ngrams)


def _count(captions: Array, grams: Array, image_of: Array, num_images: int) -> NGrams:
    num_grams = int(grams.max(initial=0)) + 1
    keys, counts = np.unique(captions * num_grams + grams, return_counts=True)
    captions, grams = keys // num_grams, keys % num_grams
    end = np.searchsorted(captions, num_images)  # candidates are the first captions
    references = captions[end:] - num_images
    wanted = image_of[references] * num_grams + grams[end:]
    rows = np.searchsorted(keys[:end], wanted)
    in_both = np.flatnonzero(rows < end)
    in_both = in_both[keys[rows[in_both]] == wanted[in_both]]
    return NGrams(
        captions[:end],
        grams[:end],
        counts[:end],
        references,
        grams[end:],
        counts[end:],
        in_both,
        rows[in_both],
    )
