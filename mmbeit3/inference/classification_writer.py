"""What is written of the classes of images: tables, and a page of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.inference.classification_result import ClassificationResult
from mmbeit3.inference.label_table import FILES, NUM_KEPT, LabelTable
from mmbeit3.inference.writer import ResultWriter, Written


@dataclass
class WrittenLabels(Written):
    """An image that is done: its most likely labels, and their probabilities."""

    top: list[tuple[int, float]]


class ClassificationWriter(ResultWriter):
    """Writes ``labels.json``, ``labels.csv`` and ``labels.html``.

    Args:
        out_dir (Path): Where they go.
        classes (Sequence[str]): Names of the classes.
    """

    task = "classification"
    library = "mmengine"
    files = ", ".join(FILES)
    run_files = FILES
    draws = False
    written = WrittenLabels

    def __init__(self, out_dir: Path, classes: Sequence[str]) -> None:
        super().__init__(out_dir)
        self._table = LabelTable(classes)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Write the files at the end, also of a run that was interrupted."""
        yield
        self._table.write(self.out_dir)

    def write(self, found: ClassificationResult) -> WrittenLabels:
        """Keep the most likely classes of one image."""
        order = np.argsort(-found.scores, kind="stable")[:NUM_KEPT]
        top = [(int(label), float(found.scores[label])) for label in order]
        return WrittenLabels(found.source, *found.size, top)

    def add(self, written: WrittenLabels) -> dict[str, Any]:
        """Take one image into the table; returns its class."""
        return self._table.add(written.source, written.top)

    def summary(self) -> dict[str, Any]:
        """Return how many images each class has."""
        return {"classes": self._table.counts}

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return how many images each class has, as rows of a table."""
        return [(f"  {name}", str(number)) for name, number in summary["classes"].items()]
