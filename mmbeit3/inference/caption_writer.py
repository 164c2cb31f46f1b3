"""What is written of captions: COCO results, a table, and pictures with their caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.captioner import CaptionResult
from mmbeit3.inference.entry_writer import EntryWriter
from mmbeit3.inference.image_list import Source


class CaptionWriter(EntryWriter):
    """Writes ``captions.json``, COCO results, ``captions.csv``, ``captions.html``, ``overlays/``.

    Args:
        out_dir (Path): Where they go.
    """

    task = "captioning"
    name = "captions"
    title = "Captions"

    def entry(self, found: CaptionResult) -> dict[str, Any]:
        """Return the caption and its score."""
        return {"caption": found.caption, "score": round(found.score, 6)}

    def json_entry(self, source: Source, entry: dict[str, Any]) -> dict[str, Any]:
        """Return what a server of COCO takes."""
        return {"image_id": source.image_id, "caption": entry["caption"]}

    def table(self, rows: Sequence[tuple[Source, dict[str, Any]]]) -> list[Sequence[Any]]:
        """Return file, caption and score."""
        table = [(s.file_name, entry["caption"], f"{entry['score']:.6f}") for s, entry in rows]
        return [("file_name", "caption", "score"), *table]

    def figures(
        self, rows: Sequence[tuple[Source, dict[str, Any]]]
    ) -> Iterator[tuple[tuple[Path | None, ...], str, str]]:
        """Yield each image with its caption."""
        for source, entry in rows:
            yield (source.path,), entry["caption"], source.file_name
