"""What is written of judgments: a JSON list, a table, and a page of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.asked_images import AskedSource
from mmbeit3.inference.entry_writer import EntryWriter
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.judge import JudgmentResult


class JudgmentWriter(EntryWriter):
    """Writes ``judgments.json``, ``judgments.csv`` and ``judgments.html``.

    Args:
        out_dir (Path): Where they go.
    """

    task = "nlvr2"
    unit = "statements"
    name = "judgments"
    title = "Statements about pairs of pictures"

    def entry(self, found: JudgmentResult) -> dict[str, Any]:
        """Return images, statement and judgment."""
        assert isinstance(found.source, AskedSource)
        left, right = (image.file_name for image in found.source.images)
        judged = {"judgment": bool(found), "score": round(found.score, 6)}
        return {"left": left, "right": right, "text": found.text} | judged

    def json_entry(self, source: Source, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry."""
        return entry

    def table(self, rows: Sequence[tuple[Source, dict[str, Any]]]) -> list[Sequence[Any]]:
        """Return images, statement, judgment and its probability."""
        names = ("left", "right", "text", "judgment")
        table = [(*(entry[n] for n in names), f"{entry['score']:.6f}") for _, entry in rows]
        return [(*names, "score"), *table]

    def figures(
        self, rows: Sequence[tuple[Source, dict[str, Any]]]
    ) -> Iterator[tuple[tuple[Path | None, ...], str, str]]:
        """Yield each pair with its statement."""
        for source, entry in rows:
            assert isinstance(source, AskedSource)
            paths = tuple(image.path for image in source.images)
            title = f"{entry['judgment']} ({entry['score']:.2f}): {entry['text']}"
            yield paths, title, source.file_name

    def summary(self) -> dict[str, Any]:
        """Return how many statements are judged true and false."""
        judged = [entry["judgment"] for _, entry in self._rows]
        return {"judgments": {"True": judged.count(True), "False": judged.count(False)}}

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return these numbers, as rows of a table."""
        return [(f"  {name}", str(number)) for name, number in summary["judgments"].items()]
