"""What is written of answers: a JSON list, a table, a page, and where the model looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.inference.answerer import NUM_SHOWN, AnswerResult
from mmbeit3.inference.entry_writer import EntryWriter
from mmbeit3.inference.image_list import Source


class AnswerWriter(EntryWriter):
    """Writes ``answers.json``, ``answers.csv`` and ``answers.html``; ``overlays/`` of attention.

    Args:
        out_dir (Path): Where they go.
    """

    task = "vqa"
    unit = "questions"
    name = "answers"
    title = "Questions and answers"

    def entry(self, found: AnswerResult) -> dict[str, Any]:
        """Return the question and the best answers."""
        best = found.top(NUM_SHOWN)
        answers = [{"answer": answer, "score": round(score, 6)} for answer, score in best]
        return {"question": found.question, "answers": answers}

    def json_entry(self, source: Source, entry: dict[str, Any]) -> dict[str, Any]:
        """Return file, question and answers."""
        return {"file_name": source.file_name, **entry}

    def table(self, rows: Sequence[tuple[Source, dict[str, Any]]]) -> list[Sequence[Any]]:
        """Return file, question and the best answers with their scores."""
        number = max((len(entry["answers"]) for _, entry in rows), default=1)
        head = [f"{kind}_{n}" for n in range(1, number + 1) for kind in ("answer", "score")]
        table: list[Sequence[Any]] = [("file_name", "question", *head)]
        for source, entry in rows:
            best = [(found["answer"], f"{found['score']:.6f}") for found in entry["answers"]]
            table.append((source.file_name, entry["question"], *(x for pair in best for x in pair)))
        return table

    def figures(
        self, rows: Sequence[tuple[Source, dict[str, Any]]]
    ) -> Iterator[tuple[tuple[Path | None, ...], str, str]]:
        """Yield each image with its questions; where attention was drawn, each question."""
        by_picture: dict[Path | None, list[tuple[Source, dict[str, Any]]]] = {}
        for source, entry in rows:
            picture = self.out_dir / source.overlay if source.overlay else source.path
            by_picture.setdefault(picture, []).append((source, entry))
        for picture, asked in by_picture.items():
            lines = [_in_lines(entry) for _, entry in asked]
            yield (picture,), asked[0][0].file_name, "\n\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """Return how often each answer was the best one."""
        counts = Counter(entry["answers"][0]["answer"] for _, entry in self._rows)
        return {"answers": dict(counts.most_common())}

    @staticmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the most frequent answers, as rows of a table."""
        return [(f"  {name}", str(n)) for name, n in list(summary["answers"].items())[:10]]


def _in_lines(entry: dict[str, Any]) -> str:
    """The question, the best answer, and the others."""
    best, *others = (f"{found['answer']} ({found['score']:.2f})" for found in entry["answers"])
    return f"{entry['question']}\n→ {best}\n{', '.join(others)}"
