"""Tables as text: for logs, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 10_000  # characters: the lines of a log are not broken
FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - what spreadsheets take for a formula's start


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in ASCII, all cells as they are.

    Args:
        head (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence[str]]): Cells of each row.
    """
    table = Table(*head, box=box.ASCII2)
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    console = Console(file=text, width=WIDTH, color_system=None, markup=False, emoji=False)
    console.print(table)
    return text.getvalue().rstrip("\n")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Write rows as CSV, a line feed after each; cells with a line break of any kind are quoted.

    A text that a spreadsheet would run as a formula gets an apostrophe before it: captions, answers
    and names of files come from models and strangers. Numbers stay as they are.

    Args:
        rows (Iterable[Sequence]): The rows, that of the names first.

    Returns:
        str: The content of the file.
    """
    lines = []
    for row in rows:
        line = StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(map(_plain, row))  # quotes its line end
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def without_apostrophe(cell: str) -> str:
    """Undo what :func:`csv_text` does to a text that looks like a formula.

    Args:
        cell: A text of a CSV file.
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _plain(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
