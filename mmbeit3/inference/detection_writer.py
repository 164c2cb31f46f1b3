"""What is written of detections: pictures, a COCO results list, and counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.datasets.palette import make_palette
from mmbeit3.inference.detector import Detections
from mmbeit3.inference.pipeline import JsonList
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.ops import encode_masks
from mmbeit3.visualization.overlay import draw_instances
from mmbeit3.visualization.pictures import write_picture

DEFAULT_SCORE_THR = 0.3


@dataclass
class WrittenDetections(Written):
    """An image that is done: its results as lines of JSON, and the labels drawn."""

    results: list[str]
    labels: list[int]


class DetectionWriter(ResultWriter):
    """Writes ``results.json`` and ``overlays/``.

    Args:
        out_dir (Path): Where they go.
        classes (Sequence[str]): Names of the classes.
        score_thr (float, optional): Draw and count detections of at least this score. Defaults to
            0.3.
    """

    task = "detection"
    library = "mmdet"
    files = "results.json"
    run_files = (files,)
    written = WrittenDetections

    def __init__(self, out_dir: Path, classes: Sequence[str], score_thr: float | None) -> None:
        super().__init__(out_dir)
        self._classes = classes
        self._score_thr = DEFAULT_SCORE_THR if score_thr is None else score_thr
        self._palette = [(b, g, r) for r, g, b in make_palette(len(classes))]
        self._labels: Counter[int] = Counter()
        self._num_results = 0
        self._list = JsonList(out_dir / "results.json")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep ``results.json`` open."""
        with self._list:
            yield

    def write(self, found: Detections) -> WrittenDetections:
        """Draw one image, and put its results into words."""
        drawn = found.scores >= self._score_thr
        if found.source.overlay:
            self._draw(found, drawn, self.out_dir / found.source.overlay)
        height, width = found.image.shape[:2]
        results = [json.dumps(result) for result in self._entries(found)]
        labels = found.labels[drawn].tolist()
        return WrittenDetections(found.source, height, width, results, labels)

    def add(self, written: WrittenDetections) -> dict[str, Any]:
        """Append the results of one image to the list, and count them."""
        self._list.append(written.results)
        self._labels.update(written.labels)
        self._num_results += len(written.results)
        return {}

    def summary(self) -> dict[str, Any]:
        """Return the counts, and the categories that ``results.json`` refers to."""
        return {
            "score_thr": self._score_thr,
            "num_results": self._num_results,
            "num_detections": sum(self._labels.values()),
            "detections": {name: self._labels[i] for i, name in enumerate(self._classes)},
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(self._classes)],
        }

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return how often each class was found, as rows of a table."""
        found = {name: count for name, count in summary["detections"].items() if count}
        rows = [(f"detections from {summary['score_thr']}", str(summary["num_detections"]))]
        names = sorted(found, key=found.get, reverse=True)
        return rows + [(f"  {name}", str(found[name])) for name in names]

    def _draw(self, found: Detections, drawn: np.ndarray, path: Path) -> None:
        """Write the picture."""
        masks = None if found.masks is None else found.masks[drawn]
        instances = found.boxes[drawn], found.labels[drawn], found.scores[drawn], masks
        write_picture(path, draw_instances(found.image, *instances, self._classes, self._palette))

    def _entries(self, found: Detections) -> Iterator[dict[str, Any]]:
        """Yield the detections as entries of a COCO results list."""
        codes = None if found.masks is None else encode_masks(found.masks)
        for index, (x1, y1, x2, y2) in enumerate(found.boxes.tolist()):
            label = int(found.labels[index])
            result = {
                "image_id": found.source.image_id,
                "file_name": found.source.file_name,
                "category_id": label + 1,
                "category": self._classes[label],
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(found.scores[index]), 6),
            }
            if codes is not None:
                counts = codes[index]["counts"].decode()
                result["segmentation"] = {"size": codes[index]["size"], "counts": counts}
            yield result
