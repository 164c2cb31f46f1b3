"""BLEU of captions, over all images together (Papineni et al., 2002)."""

from __future__ import annotations

import numpy as np

from mmbeit3.evaluation.captions.ngrams import CountedCaptions

# As in the official program, so that nothing is divided by zero.
SMALL, TINY = 1e-9, 1e-15


def bleu(captions: CountedCaptions) -> list[float]:
    """BLEU-1 to BLEU-4, against the references whose lengths are closest to the candidates'.

    Args:
        captions: What :func:`mmbeit3.evaluation.captions.ngrams.count_ngrams` counted.

    Returns:
        The four scores, 0 to 1.
    """
    scores, product = [], 1.0
    for number, ngrams in enumerate(captions.ngrams):
        most = np.zeros(len(ngrams.candidate), dtype=np.int64)  # in any reference of the image
        np.maximum.at(most, ngrams.row_in_candidates, ngrams.reference_count[ngrams.in_both])
        right = np.minimum(ngrams.candidate_count, most).sum()
        total = np.maximum(captions.candidate_lengths - number, 0).sum()
        product *= (right + TINY) / (total + SMALL)
        scores.append(product ** (1 / (number + 1)))
    length = captions.candidate_lengths.sum()
    ratio = (length + TINY) / (_closest_lengths(captions).sum() + SMALL)
    penalty = np.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [float(score * penalty) for score in scores]


def _closest_lengths(captions: CountedCaptions) -> np.ndarray:
    """Length of the reference (images,) closest to each candidate's; the shorter of two."""
    images, lengths = captions.image_of, captions.reference_lengths
    distances = np.abs(lengths - captions.candidate_lengths[images])
    order = np.lexsort((lengths, distances, images))
    _, first = np.unique(images[order], return_index=True)
    return lengths[order][first]
