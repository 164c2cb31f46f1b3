"""The classes of the images of a run: tables, and a page of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.image_list import Source
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.thumbnails import read_figures
from mmbeit3.utils.tables import csv_text
from mmbeit3.utils.whole_files import write_whole
from mmbeit3.visualization.picture_page import Section, picture_page

FILES = ("labels.json", "labels.csv", "labels.html")
NUM_KEPT = 5  # most likely classes of an image
NUM_SHOWN = 12  # pictures of a class


class LabelTable:
    """Collects the most likely classes of images, and writes ``labels.{json,csv,html}``.

    Args:
        classes (Sequence[str]): Names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self._rows: list[tuple[Source, list[tuple[int, float]]]] = []

    def add(self, source: Source, top: Sequence[tuple[int, float]]) -> dict[str, Any]:
        """Take the labels and probabilities of an image, the most likely first.

        Returns:
            dict: What a summary says of the image.
        """
        kept = [(int(label), float(score)) for label, score in top[:NUM_KEPT]]
        self._rows.append((source, kept))
        return {"class": self.classes[kept[0][0]], "score": round(kept[0][1], 6)}

    @property
    def counts(self) -> dict[str, int]:
        """How many images each class has, the most frequent first."""
        counts = Counter(self.classes[top[0][0]] for _, top in self._rows)
        return dict(counts.most_common())

    def write(self, out_dir: Path) -> None:
        """Write the files.

        Raises:
            WriteError: One cannot be written.
        """
        entries = [
            {
                "file_name": source.file_name,
                "classes": [{"name": self.classes[i], "score": round(s, 6)} for i, s in top],
            }
            for source, top in self._rows
        ]
        write_json(out_dir / FILES[0], entries)
        table = [
            (source.file_name, self.classes[top[0][0]], f"{top[0][1]:.6f}")
            for source, top in self._rows
        ]
        write_whole(out_dir / FILES[1], csv_text([("file_name", "class", "score"), *table]))
        write_whole(out_dir / FILES[2], self._page())

    def _page(self) -> str:
        by_class: dict[str, list[tuple[Source, float]]] = {name: [] for name in self.counts}
        for source, top in self._rows:
            by_class[self.classes[top[0][0]]].append((source, top[0][1]))
        shown = {
            name: sorted(found, key=lambda pair: -pair[1])[:NUM_SHOWN]
            for name, found in by_class.items()
        }
        figures = read_figures(
            {
                name: [(source.path, f"{score:.2f} {source.file_name}") for source, score in found]
                for name, found in shown.items()
            }
        )
        sections = [
            Section(name, _note(len(by_class[name]), len(shown[name])), figures[name])
            for name in by_class
        ]
        note = f"{len(self._rows)} images, {len(by_class)} of {len(self.classes)} classes found"
        return picture_page("Images by class", note, sections)


def _note(number: int, shown: int) -> str:
    images = "1 image" if number == 1 else f"{number} images"
    return images if shown == number else f"{images}, the {shown} most certain"
