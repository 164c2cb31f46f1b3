"""Tables as text: what is read back is what was written."""

from __future__ import annotations

import csv
import io

from mmbeit3.utils.tables import csv_text


def test_cells_with_any_signs_are_read_back() -> None:
    rows = [["name", "n"], ["a\rb", "1"], ["a\nb", "2"], ["\r\n", "3"], ['x,"y"', "4"], ["", "5"]]
    text = csv_text(rows)
    assert text.startswith("name,n\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
