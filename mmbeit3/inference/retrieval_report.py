"""A page on which images and texts are not found by each other, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.evaluation.retrieval import KS
from mmbeit3.inference.report_page import begin, read_pictures, write_report

LAST_RANKS = (1, 5, 10, 50, 100, 500)  # of parts of the histogram
WAYS = {"TR": ("images", "the text of an image"), "IR": ("texts", "the image of a text")}
WORST, OF_PART = 150, 30  # queries of each way that the page has in words
SIDE = 280  # pixels of the longer side of a picture


def report_rankings(
    rankings: Mapping[str, Sequence[Mapping[str, Any]]],
    paths: Mapping[Any, str | Path],
    texts: Mapping[Any, str],
    out_dir: str | Path,
    note: str,
) -> dict[str, Any]:
    """Write a page on retrieval and its numbers, ``report.html`` and ``report.json``.

    Args:
        rankings: What ``out_file`` of :class:`mmbeit3.evaluation.RetrievalMetric` holds.
        paths: File of each image by its id.
        texts: Each text by its id.
        out_dir: Where the two files go; made if absent.
        note: What the page is on.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: Jinja2 or Plotly is not installed.
    """
    begin(out_dir)
    ids = list(paths)
    places = {number: index for index, number in enumerate(ids)}
    of_text = {
        text: image["image_id"] for image in rankings["images"] for text in image["text_ids"]
    }
    ways, entries = {}, {}
    for way, (key, words) in WAYS.items():
        queries = rankings[key]
        ranks = np.array([query["rank"] for query in queries])
        parts = np.searchsorted(LAST_RANKS, ranks)
        ways[way] = {
            "words": words,
            "queries": len(queries),
            "recall": {str(k): float(100 * (ranks <= k).mean()) for k in KS},
            "median_rank": float(np.median(ranks)),
            "parts": np.bincount(parts, minlength=len(LAST_RANKS) + 1).tolist(),
        }
        order = np.argsort(-ranks, kind="stable")
        chosen = dict.fromkeys(order[:WORST].tolist())
        for part in np.unique(parts):
            chosen |= dict.fromkeys(order[parts[order] == part][:OF_PART].tolist())
        entries[way] = [
            {"part": int(parts[index]), "rank": int(ranks[index])}
            | _entry(way, queries[index], places, of_text, texts)
            for index in chosen
        ]
    content = {
        "kind": "rankings",
        "last_ranks": list(LAST_RANKS),
        "ways": ways,
        "mean_recall": float(np.mean([v for way in ways.values() for v in way["recall"].values()])),
    }
    wanted = [image for part in entries.values() for entry in part for image in entry["images"]]
    page = content | {
        "entries": entries,
        "names": [osp.basename(paths[number]) for number in ids],
        "pictures": read_pictures(list(paths.values()), wanted, SIDE),
    }
    write_report(out_dir, "retrieval.html", "Retrieval", note, page, content)
    return content


def _entry(
    way: str,
    query: Mapping[str, Any],
    places: Mapping[Any, int],
    of_text: Mapping[Any, Any],
    texts: Mapping[Any, str],
) -> dict[str, Any]:
    """Pictures and texts of a query: its own, and those of what came first."""
    if way == "TR":
        return {
            "images": [places[query["image_id"]]],
            "own": [texts[number] for number in query["text_ids"]],
            "first": texts[query["first"]],
        }
    own = of_text[query["text_id"]]
    return {
        "images": [places[own], places[query["first"]]],
        "text": texts[query["text_id"]],
    }
