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

    Args:
        rows (Iterable[Sequence]): The rows, that of the names first.

    Returns:
        str: The content of the file.
    """
    lines = []
    for row in rows:
        line = StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)  # quotes the signs of its line end
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)
