"""A page on which captions are bad, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.datasets.checks.captions import CaptionedImage
from mmbeit3.evaluation import resampling
from mmbeit3.evaluation.captions.files import read_references, read_results
from mmbeit3.evaluation.captions.scores import image_scores, score_captions, score_names
from mmbeit3.inference.report_page import begin, read_pictures, result_names, write_report

BIN = 0.25  # of CIDEr
WORST, BEST, OF_BIN = 200, 60, 12  # images that the page has in words
SIDE = 280  # pixels of the longer side of a picture


def report_caption_files(
    results: Sequence[str | Path],
    ground_truth: str | Path,
    out_dir: str | Path,
    images: str | Path | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Write a page on caption results, whoever made them; see :func:`report_captions`.

    Args:
        results: Files, see :func:`mmbeit3.evaluation.captions.files.read_results`.
        ground_truth: What people wrote, see
            :func:`mmbeit3.evaluation.captions.files.read_references`.
        out_dir: Where the report goes; made if absent.
        images: Folder of the images. Defaults to None: the page has no pictures.
        split: Of Karpathy's files, which images. Defaults to 'test'.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: A file cannot be used, or they are not of the same images.
    """
    begin(out_dir)
    references = read_references(ground_truth, split)
    captions = {
        name: list(read_results(path, references).values())
        for name, path in zip(result_names(results), results, strict=True)
    }
    paths = [Path(images, image.file) if images is not None else None for image in references]
    note = f"{' and '.join(map(str, results))}, next to {ground_truth}"
    return report_captions(references, paths, captions, out_dir, note)


def report_captions(
    references: Sequence[CaptionedImage],
    paths: Sequence[Path | None],
    results: Mapping[str, Sequence[str]],
    out_dir: str | Path,
    note: str,
) -> dict[str, Any]:
    """Write a page on captions and its numbers, ``report.html`` and ``report.json``.

    Args:
        references: The images, with what people wrote.
        paths: Their files, None where they are not known.
        results: The caption of each image, by the name of the result; the others are compared with
            the first.
        out_dir: Where the two files go; made if absent.
        note: What the page is on.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: Jinja2 or Plotly is not installed.
    """
    begin(out_dir)
    scored = [score_captions(references, captions) for captions in results.values()]
    single = [image_scores(references, captions) for captions in results.values()]
    names = list(single[0])
    measures = [_means(scores) for scores in single]
    comparisons = [
        resampling.compare(measures[0], other, len(references)) for other in measures[1:]
    ]
    content = {
        "kind": "captions",
        "metrics": score_names(),
        "results": [{"name": name} | scores for name, scores in zip(results, scored, strict=True)],
        "compared": names,
        "comparisons": comparisons,
    }
    chosen = _choose([scores["CIDEr"] for scores in single])
    page = content | {
        "bin": BIN,
        "names": [_name(image) for image in references],
        "scores": [
            {name: values.round(4).tolist() for name, values in scores.items()} for scores in single
        ],
        "entries": {
            index: {
                "references": references[index].texts,
                "captions": [captions[index] for captions in results.values()],
            }
            for index in chosen
        },
        "pictures": read_pictures(paths, chosen, SIDE),
    }
    write_report(out_dir, "captions.html", "Captions", note, page, content)
    return content


def _name(image: CaptionedImage) -> str:
    return f"image {image.image_id}" if image.file == "-" else image.file


def _means(scores: Mapping[str, np.ndarray]) -> resampling.Measure:
    values = np.stack(list(scores.values()))
    return lambda times: values @ times / times.sum()


def _choose(results: Sequence[np.ndarray]) -> list[int]:
    """Images that the page has in words: the worst, the best, and some of each bin."""
    chosen: dict[int, None] = {}
    for scores in results:
        order = np.argsort(scores, kind="stable")
        chosen |= dict.fromkeys([*order[:WORST].tolist(), *order[::-1][:BEST].tolist()])
        bins = (scores // BIN).astype(int)
        for number in np.unique(bins):
            chosen |= dict.fromkeys(np.flatnonzero(bins == number)[:OF_BIN].tolist())
    return list(chosen)
