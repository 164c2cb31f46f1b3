"""What is written of detections: pictures, a COCO results list, and counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbeit3.datasets.label_formats import FILE_NAMES, read_labels, write_labels
from mmbeit3.inference.detection_result import DetectionResult
from mmbeit3.inference.pipeline import JsonList
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.utils import InputError
from mmbeit3.visualization.samples import DEFAULT_SCORE_THR


@dataclass
class WrittenDetections(Written):
    """An image that is done: its results as lines of JSON, and the labels drawn."""

    results: list[str]
    labels: list[int]
    geojson: str | None = None


class DetectionWriter(ResultWriter):
    """Writes ``results.json`` and ``overlays/``, and ``maps/`` of images whose place is known.

    Args:
        out_dir (Path): Where they go.
        classes (Sequence[str]): Names of the classes.
        score_thr (float): Draw and count detections of at least this score. Defaults to 0.3.
        hide_duplicates (bool): Whether pictures leave out detections that overlap a surer one.
            Defaults to False.
        formats (Sequence[str]): Formats of other programs in which detections of at least
            ``score_thr`` are written, too, each into a folder of its name. Defaults to none.
    """

    task = "detection"
    library = "mmdet"
    files = "results.json"
    run_files = (files,)
    further = {"geojson": ("maps", ".geojson")}
    written = WrittenDetections

    def __init__(
        self,
        out_dir: Path,
        classes: Sequence[str],
        score_thr: float = DEFAULT_SCORE_THR,
        hide_duplicates: bool = False,
        formats: Sequence[str] = (),
    ) -> None:
        super().__init__(out_dir)
        self._classes = classes
        self._score_thr = score_thr
        self._formats = formats
        self._drawing = {"score_thr": score_thr, "hide_duplicates": hide_duplicates}
        self._labels: Counter[int] = Counter()
        self._num_results = 0
        self._list = JsonList(out_dir / "results.json")

    def resume(self, out_dir: Path) -> None:
        """Refuse to replace labels of an earlier run, which somebody may have corrected."""
        for name in self._formats:
            folder = out_dir / name
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise InputError(
                    f"{folder} exists already and may have been corrected: remove it, or choose "
                    "another out_dir",
                    "formats",
                )

    def finish(self, out_dir: Path, summary: dict[str, Any]) -> None:
        """Write the formats of other programs."""
        if not self._formats:
            return
        labels = read_labels(out_dir, "infer")
        for name in self._formats:
            place = out_dir / name / FILE_NAMES.get(name, "")
            notes = write_labels(labels, place, name)
            print("; ".join([f"labels from {self._score_thr}: {place}", *notes]))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep ``results.json`` open."""
        with self._list:
            yield

    def write(self, found: DetectionResult) -> WrittenDetections:
        """Draw one image, and put its results into words."""
        drawn = found.scores >= self._score_thr
        if found.source.overlay:
            found.save(self.out_dir / found.source.overlay, **self._drawing)
        geojson = found.source.further.get("geojson") if found.georeference else None
        if geojson:
            found.save_geojson(self.out_dir / geojson, self._score_thr)
        results = [json.dumps(result) for result in found.to_coco()]
        labels = found.labels[drawn].tolist()
        return WrittenDetections(found.source, *found.size, results, labels, geojson)

    def add(self, written: WrittenDetections) -> dict[str, Any]:
        """Append the results of one image to the list, and count them."""
        self._list.append(written.results)
        self._labels.update(written.labels)
        self._num_results += len(written.results)
        return {"geojson": written.geojson} if written.geojson else {}

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
        names = sorted(found, key=found.__getitem__, reverse=True)
        return rows + [(f"  {name}", str(found[name])) for name in names]
