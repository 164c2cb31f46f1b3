"""What is written of image features: the index, and what texts and classes find in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbeit3.inference.image_index import Entry, Hit, ImageIndex
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.label_table import FILES as LABEL_FILES
from mmbeit3.inference.label_table import NUM_KEPT, LabelTable
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.retriever import ImageFeature, Retriever
from mmbeit3.inference.thumbnails import read_figures
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.utils import InputError, warn
from mmbeit3.utils.file_stamp import Stamp
from mmbeit3.utils.tables import csv_text
from mmbeit3.utils.whole_files import write_whole
from mmbeit3.visualization.picture_page import Section, picture_page

INDEX = "features.safetensors"
RANKING_FILES = ("ranking.json", "ranking.csv", "ranking.html")
DEFAULT_TOP = 12


@dataclass
class WrittenFeature(Written):
    """An image that is done: its feature, and size and time of its file."""

    feature: np.ndarray  # a list where it comes from another process's journal
    stamp: tuple[int, int]
    was_known: bool


class RetrievalWriter(ResultWriter):
    """Writes ``features.safetensors``, and the images that fit texts or classes.

    Args:
        out_dir (Path): Where they go.
        model (Retriever): What encodes. If it has classes, ``labels.{json,csv,html}`` says which
            one fits each image.
        texts (Sequence[str], optional): Queries: ``ranking.{json,csv,html}`` has the images of
            each. Defaults to None.
        top (int): Images of a query. Defaults to 12.

    Raises:
        InputError: A text cannot be used.
    """

    task = "retrieval"
    library = "mmengine"
    files = INDEX
    draws = False
    written = WrittenFeature

    def __init__(
        self,
        out_dir: Path,
        model: Retriever,
        texts: Sequence[str] | None = None,
        top: int = DEFAULT_TOP,
    ) -> None:
        super().__init__(out_dir)
        self._model, self._top = model, top
        self._texts = list(texts or ())
        self._queries = model.encode_text(self._texts) if self._texts else None
        self._labels = LabelTable(model.classes) if model.classes else None
        self.run_files = (INDEX,)
        self.run_files += RANKING_FILES if self._texts else ()
        self.run_files += LABEL_FILES if model.classes else ()
        self.files = ", ".join(self.run_files)
        self._sources: list[Source] = []
        self._entries: list[Entry] = []
        self._ranking: list[list[Hit]] = []
        self._num_known = 0

    def resume(self, out_dir: Path) -> None:
        """Take over the features of an earlier run."""
        if not (out_dir / INDEX).exists():
            return
        try:
            self._model.know(ImageIndex.read(out_dir / INDEX))
        except InputError as error:
            warn(f"{error}; all images are encoded anew")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Write the files of all images at the end, also of a run that was interrupted."""
        yield
        if not self._entries:
            return
        first = self._sources[0]
        assert first.path is not None, "a run is over files"
        folder = first.path.parents[first.file_name.count("/")]
        index = ImageIndex(folder, self._entries, self._model.probe)
        index.save(self.out_dir / INDEX)
        if self._queries is not None:
            self._ranking = index.search(self._queries, self._top)
            self._write_ranking(len(index))
        if self._labels is not None:
            self._labels.write(self.out_dir)

    def write(self, found: ImageFeature) -> WrittenFeature:
        """Put what is known of one image into words."""
        entry = self._model.entry(found)
        stamp = (entry.stamp.size, entry.stamp.time)
        was_known = found.known_size is not None
        return WrittenFeature(found.source, *found.size, entry.feature, stamp, was_known)

    def add(self, written: WrittenFeature) -> dict[str, Any]:
        """Take one image into the index; returns its class where there are classes."""
        feature = np.asarray(written.feature, np.float32)
        size = (written.height, written.width)
        entry = Entry(written.source.file_name, feature, size, Stamp(*written.stamp))
        self._sources.append(written.source)
        self._entries.append(entry)
        self._num_known += written.was_known
        if self._labels is None:
            return {}
        [scores] = self._model.class_scores(feature[None])
        order = np.argsort(-scores, kind="stable")[:NUM_KEPT]
        return self._labels.add(written.source, [(int(i), float(scores[i])) for i in order])

    def summary(self) -> dict[str, Any]:
        """Return how many features were those of an earlier run, and what was found."""
        found: dict[str, Any] = {"num_known": self._num_known}
        if self._texts:
            found["best"] = {
                text: {"file_name": hits[0].name, "score": round(hits[0].score, 6)}
                for text, hits in zip(self._texts, self._ranking, strict=False)
            }
        if self._labels is not None:
            found["classes"] = self._labels.counts
        return found

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the best image of each query, and how many images each class has."""
        rows = [("known from an earlier run", str(summary["num_known"]))]
        for text, best in summary.get("best", {}).items():
            rows.append((f"  {text}", f"{best['score']:.3f} {best['file_name']}"))
        return rows + [(f"  {name}", str(n)) for name, n in summary.get("classes", {}).items()]

    def _write_ranking(self, number: int) -> None:
        pairs = list(zip(self._texts, self._ranking, strict=True))
        ranking = [
            {
                "text": text,
                "images": [{"file_name": hit.name, "score": round(hit.score, 6)} for hit in hits],
            }
            for text, hits in pairs
        ]
        write_json(self.out_dir / RANKING_FILES[0], ranking)
        table = [
            (text, rank, f"{hit.score:.6f}", hit.name)
            for text, hits in pairs
            for rank, hit in enumerate(hits, 1)
        ]
        content = csv_text([("text", "rank", "score", "file_name"), *table])
        write_whole(self.out_dir / RANKING_FILES[1], content)
        captions = {
            text: [(hit.path, f"{hit.score:.3f} {hit.name}") for hit in hits]
            for text, hits in pairs
        }
        figures = read_figures(captions)
        sections = [
            Section(text, f"the {len(hits)} most similar of {number}", figures[text])
            for text, hits in pairs
        ]
        note = f"{number} images, {len(pairs)} texts; below a picture the cosine similarity"
        write_whole(self.out_dir / RANKING_FILES[2], picture_page("Images by text", note, sections))
