"""What is written in words about images: a JSON list, a table, and a page of pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmbeit3.inference.image_list import Source
from mmbeit3.inference.pipeline import write_json
from mmbeit3.inference.result import Predicted
from mmbeit3.inference.thumbnails import read_thumbnails
from mmbeit3.inference.writer import ResultWriter, Written
from mmbeit3.utils.tables import csv_text
from mmbeit3.utils.whole_files import write_whole
from mmbeit3.visualization.picture_page import Figure, Section, picture_page

MAX_FIGURES = 1000  # pictures of a page, which has them in it


@dataclass
class WrittenEntry(Written):
    """What was said of an image, or of several: as the summary has it."""

    entry: dict[str, Any]


class EntryWriter(ResultWriter):
    """Writes ``NAME.json``, ``NAME.csv`` and ``NAME.html``; pictures where sources have a place.

    Args:
        out_dir (Path): Where they go.
    """

    library = "mmengine"
    written = WrittenEntry
    #: The files without their suffixes.
    name: ClassVar[str]
    #: Title of the page.
    title: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.run_files = tuple(f"{cls.name}.{kind}" for kind in ("json", "csv", "html"))
        cls.files = ", ".join(cls.run_files)

    def __init__(self, out_dir: Path) -> None:
        super().__init__(out_dir)
        self._rows: list[tuple[Source, dict[str, Any]]] = []

    @abstractmethod
    def entry(self, found: Any) -> dict[str, Any]:
        """Put what was found into words."""

    @abstractmethod
    def json_entry(self, source: Source, entry: dict[str, Any]) -> dict[str, Any]:
        """What the JSON list says of it."""

    @abstractmethod
    def table(self, rows: Sequence[tuple[Source, dict[str, Any]]]) -> list[Sequence[Any]]:
        """The rows of the table, that of the names first."""

    @abstractmethod
    def figures(
        self, rows: Sequence[tuple[Source, dict[str, Any]]]
    ) -> Iterator[tuple[tuple[Path | None, ...], str, str]]:
        """Files, title and caption of each figure of the page."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Write the files at the end, also of a run that was interrupted."""
        yield
        rows, (as_json, as_csv, page) = self._rows, self.run_files
        write_json(self.out_dir / as_json, [self.json_entry(*row) for row in rows])
        write_whole(self.out_dir / as_csv, csv_text(self.table(rows)))
        write_whole(self.out_dir / page, self._page())

    def write(self, found: Predicted) -> WrittenEntry:
        """Draw one picture, and put what was found into words."""
        if found.source.overlay:
            found.save(self.out_dir / found.source.overlay)
        return WrittenEntry(found.source, *found.size, self.entry(found))

    def add(self, written: WrittenEntry) -> dict[str, Any]:
        """Take one entry into the lists."""
        self._rows.append((written.source, written.entry))
        return written.entry

    def summary(self) -> dict[str, Any]:
        """Return nothing: all is said of each image."""
        return {}

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return no rows."""
        return []

    def _page(self) -> str:
        figures = list(self.figures(self._rows))
        shown = figures[:MAX_FIGURES]
        jpegs = read_thumbnails(path for paths, _, _ in shown for path in paths)
        drawn = [
            Figure([jpegs[path] for path in paths if path in jpegs], caption, title)
            for paths, title, caption in shown
        ]
        number = len(self._rows)
        note = f"{number} {self.unit if number != 1 else self.unit.removesuffix('s')}"
        if len(shown) < len(figures):
            note += f"; the first {len(shown)} of {len(figures)} pictures"
        return picture_page(self.title, note, [Section("", "", drawn)])
