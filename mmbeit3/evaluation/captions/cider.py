"""CIDEr of captions: n-grams weighed by how few images have them (Vedantam et al., 2015)."""

from __future__ import annotations

import numpy as np

from mmbeit3.evaluation.captions.ngrams import CountedCaptions, NGrams

SIGMA = 6.0  # words by which lengths may differ


def cider(captions: CountedCaptions) -> np.ndarray:
    """CIDEr-D of each image, which everyone reports as CIDEr; that of a data set is the mean.

    How many images have an n-gram is counted in the references at hand, so that the scores of a
    part of a data set are not those of the whole, and one image alone has 0.

    Args:
        captions: What :func:`mmbeit3.evaluation.captions.ngrams.count_ngrams` counted.

    Returns:
        Scores (images,), 0 to 10.
    """
    num_images = len(captions.candidate_lengths)
    similar = sum(_similarity(ngrams, captions.image_of, num_images) for ngrams in captions.ngrams)
    # The official program counts bigrams for the length, of which an empty caption has none, too.
    ours, theirs = (
        np.maximum(lengths - 1, 0)
        for lengths in (captions.candidate_lengths, captions.reference_lengths)
    )
    distances = ours[captions.image_of] - theirs
    similar = similar * np.exp(-(distances**2) / (2 * SIGMA**2)) / len(captions.ngrams)
    totals = np.bincount(captions.image_of, similar, num_images)
    return 10 * totals / np.bincount(captions.image_of, minlength=num_images)


def _similarity(ngrams: NGrams, image_of: np.ndarray, num_images: int) -> np.ndarray:
    """Clipped cosine (references,) of each reference and the candidate of its image."""
    num_grams = 1 + max(ngrams.candidate_gram.max(initial=0), ngrams.reference_gram.max(initial=0))
    pairs = np.unique(image_of[ngrams.reference] * num_grams + ngrams.reference_gram)
    images_with = np.bincount(pairs % num_grams, minlength=num_grams)
    weights = np.log(num_images) - np.log(np.maximum(images_with, 1))
    ours = ngrams.candidate_count * weights[ngrams.candidate_gram]
    theirs = ngrams.reference_count * weights[ngrams.reference_gram]
    our_norms = np.sqrt(np.bincount(ngrams.candidate, ours**2, num_images))
    their_norms = np.sqrt(np.bincount(ngrams.reference, theirs**2, len(image_of)))
    in_reference = theirs[ngrams.in_both]
    products = np.minimum(ours[ngrams.row_in_candidates], in_reference) * in_reference
    dots = np.bincount(ngrams.reference[ngrams.in_both], products, len(image_of))
    norms = our_norms[image_of] * their_norms
    return np.divide(dots, norms, out=np.zeros(len(image_of)), where=norms > 0)
