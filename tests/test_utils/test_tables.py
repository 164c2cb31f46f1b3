"""Tables as text: what is read back is what was written."""

from __future__ import annotations

import csv
import io

from mmbeit3.utils.tables import csv_text


def test_cells_with_any_signs_are_read_back() -> None:
    rows = [["name", "n"], ["a\rb", "1"], ["a\nb", "2"], ["a\r\n", "3"], ['x,"y"', "4"], ["", "5"]]
    text = csv_text(rows)
    assert text.startswith("name,n\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


def test_formulas_of_spreadsheets_are_made_texts_and_numbers_stay() -> None:
    signs = ["=1+1", "+a", "-a", "@a", "\ta", "＝1", "-1+cmd|' /C calc'!A0"]
    rows = [signs, ["-0.5", "+3", "-1e-05", -2.5], ["a=1", "", "'", " =1", None]]
    found = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    assert found[0] == [f"'{sign}" for sign in signs]
    assert found[1] == ["-0.5", "+3", "-1e-05", "-2.5"]
    assert found[2] == ["a=1", "", "'", " =1", ""]
