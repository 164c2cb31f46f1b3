"""Rows of tables of one's own: CSV files with a header, and JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbeit3.datasets.checks.coco import Report, kind_of, shortened
from mmbeit3.datasets.json_stream import TwiceError, unique_keys
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import HEAD, find_encoding

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
Row = tuple[int, dict[str, Any]]
"""The line of a row, and its values by column or key."""


def check_delimiter(delimiter: str | None) -> None:
    """Raise an InputError for what cannot separate columns."""
    if delimiter is not None and len(delimiter) != 1:
        raise InputError(f"delimiter is {delimiter!r}, expected one character, such as ';'")


def read_rows(
    path: str,
    columns: Mapping[str, str],
    report: Report,
    optional: Sequence[str] = (),
    delimiter: str | None = None,
    other_formats: str = "",
    cures: tuple[str, str] | None = None,
) -> Iterator[Row]:
    """Read the rows of a table that have the columns; what is wrong with others is reported.

    Args:
        path: The file. Its suffix tells the format: .csv, .tsv, or .jsonl (.ndjson).
        columns: The columns, or keys, of every row, by the argument of the data set that names
            each.
        report: Takes what is wrong with which line.
        optional: Arguments whose columns may be absent. Defaults to ().
        delimiter: What separates the columns. Defaults to None: a comma in .csv, a tab in .tsv.
        other_formats: What reads files of other suffixes, for messages. Defaults to ''.
        cures: What to do about other names of columns, and about another delimiter. Defaults to
            None: to set the arguments of a data set.

    Yields:
        The rows.

    Raises:
        InputError: The file cannot be read at all.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (*DELIMITERS, *LINES):
        known = ", ".join((*DELIMITERS, *LINES))
        hint = f"; {other_formats}" if other_formats else ""
        raise InputError(f"{path} has the suffix {suffix!r}, expected one of {known}{hint}")
    text = read_lines(path, report)
    required = {name: column for name, column in columns.items() if name not in optional}
    cures = cures or (
        f"set {' and '.join(required)} of the data set",
        "set delimiter of the data set",
    )
    if suffix not in LINES:
        wanted = list(columns.values())
        sign = delimiter or DELIMITERS[suffix]
        yield from _csv_rows(text, sign, list(required.values()), wanted, cures, report)
        return
    for line, row in json_rows(text, report):
        if absent := [column for column in required.values() if column not in row]:
            report.error(
                f"line {line}: {' and '.join(map(repr, absent))} is missing; it has "
                f"{listed(map(shortened, row))}: {cures[0]}"
            )
        else:
            yield line, row


def json_rows(text: str, report: Report) -> Iterator[Row]:
    """Read the objects of JSON Lines; blank lines are passed over.

    Args:
        text: The lines.
        report: Takes what is wrong with which line.

    Yields:
        The objects.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except TwiceError as error:
            report.error(f"line {number}: the key {shortened(error.args[0])} stands twice")
            continue
        except json.JSONDecodeError as error:
            report.error(f"line {number}: it is no JSON: {error.msg} at column {error.colno}")
            continue
        except (ValueError, RecursionError) as error:
            report.error(f"line {number}: it cannot be read: {str(error)[:80]}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            hint = ": write one object a line" if number == 1 else ""
            report.error(f"line {number}: it is {kind_of(row)}, expected an object{hint}")


def read_lines(path: str, report: Report, argument: str = "ann_file") -> str:
    """Read a text; of one that is not in its encoding, the lines that are wrong are reported.

    Args:
        path: The file.
        report: Takes the lines.
        argument: The argument of the data set that names it. Defaults to 'ann_file'.

    Raises:
        InputError: The file is absent, or is no text.
    """
    try:
        check_regular(path)
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"there is no file {path}; check data_root and {argument}{describe_similar(path)}"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    encoding = find_encoding(content[:HEAD])
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        if not encoding.startswith("utf-8"):
            raise InputError(
                f"{path} is no text in {encoding.upper()}: save it in UTF-8"
            ) from error
    lines = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            lines.append(line.decode(encoding))
        except UnicodeDecodeError as error:
            wrong = line[error.start : error.start + 1]
            as_windows = shortened(line.decode("cp1252", "replace").strip())
            report.error(
                f"line {number}: the byte {wrong!r} at column {error.start + 1} is no UTF-8; in "
                f"Windows-1252 the line is {as_windows}: save the file in UTF-8"
            )
            lines.append("")
    return "\n".join(lines)


def _csv_rows(
    text: str,
    delimiter: str,
    required: Sequence[str],
    wanted: Sequence[str],
    cures: tuple[str, str],
    report: Report,
) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if problem := _header_problem(header, delimiter, required, wanted, cures):
            report.error(f"line 1: {problem}")
            return
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            elif row:
                report.error(
                    f"line {reader.line_num}: {len(row)} columns, expected {len(header)} as in "
                    f'the header: put a text that has {delimiter!r} between quotes (")'
                )
    except csv.Error as error:
        report.error(f"line {reader.line_num}: it is no CSV: {error}")


def _header_problem(
    header: list[str],
    delimiter: str,
    required: Sequence[str],
    wanted: Sequence[str],
    cures: tuple[str, str],
) -> str | None:
    absent = [column for column in required if column not in header]
    if not absent:
        twice = [column for column in wanted if header.count(column) > 1]
        return f"the column {twice[0]!r} is there twice" if twice else None
    if not header:
        return "it is empty, expected a header with the names of the columns"
    other = [sign for sign in ";\t,|" if sign != delimiter and sign in "".join(header)]
    if len(header) == 1 and other:
        cure = f"the columns seem to be separated by {other[0]!r}: {cures[1]}"
    else:
        cure = f"{cures[0]}, or add a first line with them"
    return (
        f"the header has no column {' and '.join(map(repr, absent))}; it has "
        f"{listed(map(shortened, header))}: {cure}"
    )
