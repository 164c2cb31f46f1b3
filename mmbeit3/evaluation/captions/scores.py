"""Scores of captions next to what people wrote: BLEU, ROUGE-L, CIDEr and METEOR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmbeit3.datasets.checks.captions import CaptionedImage
from mmbeit3.evaluation.captions.bleu import bleu
from mmbeit3.evaluation.captions.cider import cider
from mmbeit3.evaluation.captions.files import References, Results, read_references, read_results
from mmbeit3.evaluation.captions.java import check_java, meteor, tokenize_by_java
from mmbeit3.evaluation.captions.ngrams import MAX_N, count_ngrams
from mmbeit3.evaluation.captions.rouge import rouge_l
from mmbeit3.evaluation.captions.tokenization import tokenize
from mmbeit3.utils.tables import text_table

BLEU = tuple(f"BLEU-{n}" for n in range(1, MAX_N + 1))
TOKENIZERS = {False: "PTB rules in Python", True: "PTB of Stanford CoreNLP 3.4.1, in Java"}


def caption_scores(
    references: References,
    results: Results,
    java: bool = False,
    answered_only: bool = False,
    split: str = "test",
) -> dict[str, Any]:
    """Score captions as COCO's evaluation does.

    Args:
        references: What people wrote, see
            :func:`mmbeit3.evaluation.captions.files.read_references`: a list of captions by image
            id, or a file.
        results: The caption of each image: by image id, as a list of ``image_id`` and ``caption``,
            or a JSON file of one; or a table of ``file_name`` and ``caption``.
        java: Whether to split words by the official tokenizer, and to add METEOR; needs Java and
            pycocoevalcap. Defaults to False.
        answered_only: Whether to leave out images that have no result, with a warning. Defaults to
            False, an error.
        split: Of Karpathy's files, which images. Defaults to 'test'.

    Returns:
        ``BLEU-1`` to ``BLEU-4``, ``ROUGE-L``, ``CIDEr`` (and ``METEOR``) as the official program
        gives them: papers print 100 times as much. ``tokenizer`` names what found the words,
        ``num_images`` counts what was scored, and ``domains`` has the same scores for the images of
        each domain, if the file of the references has some.

    Raises:
        InputError: A file or an entry cannot be used, images have no result, or Java is wanted and
            absent.
    """
    if java:
        check_java()
    images = read_references(references, split)
    captions = read_results(results, images, answered_only)
    return score_captions(
        [image for image in images if image.image_id in captions], list(captions.values()), java
    )


def score_captions(
    images: Sequence[CaptionedImage], captions: Sequence[str], java: bool = False
) -> dict[str, Any]:
    """Score the caption of each image.

    Args:
        images: The images with their references.
        captions: Their captions.
        java: See :func:`caption_scores`. Defaults to False.

    Returns:
        See there.
    """
    texts = [text for image in images for text in image.texts]
    words = iter((tokenize_by_java if java else _tokenize)([*captions, *texts]))
    candidates = [next(words) for _ in images]
    references = [[next(words) for _ in image.texts] for image in images]
    result: dict[str, Any] = _score(candidates, references, java)
    result |= {"num_images": len(images), "tokenizer": TOKENIZERS[java]}
    domains: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        if image.domain is not None:
            domains.setdefault(image.domain, []).append(index)
    if domains:
        result["domains"] = {
            domain: _score([candidates[i] for i in found], [references[i] for i in found], java)
            | {"num_images": len(found)}
            for domain, found in sorted(domains.items())
        }
    return result


def image_scores(
    images: Sequence[CaptionedImage], captions: Sequence[str]
) -> dict[str, np.ndarray]:
    """Score the caption of each image by itself, where the score of all is the mean.

    Args:
        images: The images with their references.
        captions: Their captions.

    Returns:
        ``CIDEr`` and ``ROUGE-L``, (images,). For CIDEr rare words are rare among all of them.
    """
    candidates = _tokenize(captions)
    references = [_tokenize(image.texts) for image in images]
    rouge = rouge_l(candidates, references)
    return {"CIDEr": cider(count_ngrams(candidates, references)), "ROUGE-L": rouge}


def score_names(java: bool = False) -> list[str]:
    """Names of the scores, in the order of the tables."""
    return [*BLEU, *(["METEOR"] if java else []), "ROUGE-L", "CIDEr"]


def format_scores(result: Mapping[str, Any]) -> str:
    """Write what :func:`caption_scores` returns as a text table."""
    names = [name for name in score_names(java=True) if name in result]
    rows = [[row, *_cells(scores, names)] for row, scores in _rows(result)]
    table = text_table(["", "images", *names], rows)
    return f"{table}\ntokenizer: {result['tokenizer']}"


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from result.get("domains", {}).items()
    yield "all", result


def _cells(scores: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{scores['num_images']:,}", *(f"{scores[name]:.4f}" for name in names)]


def _tokenize(captions: Sequence[str]) -> list[str]:
    return [tokenize(caption) for caption in captions]


def _score(
    candidates: Sequence[str], references: Sequence[Sequence[str]], java: bool
) -> dict[str, Any]:
    counted = count_ngrams(candidates, references)
    scores = dict(zip(BLEU, bleu(counted), strict=True))
    if java:
        scores["METEOR"] = meteor(candidates, references)
    scores["ROUGE-L"] = float(rouge_l(candidates, references).mean())
    scores["CIDEr"] = float(cider(counted).mean())
    return scores
