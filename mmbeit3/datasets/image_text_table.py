"""Images and texts of one's own: a row of a CSV file, or an object of JSON Lines, is a pair."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from os import path as osp
from pathlib import Path
from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, text_problem
from mmbeit3.datasets.checks.coco import Report, is_text, kind_of, shortened
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.datasets.json_stream import TwiceError, unique_keys
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import HEAD, find_encoding

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
Row = tuple[int, dict[str, Any]]


@DATASETS.register_module()
class ImageTextTableDataset(ImageTextDataset):
    """A CSV file with a header, or JSON Lines; an image may be there several times.

    The suffix tells the format: .csv, .tsv, or .jsonl (.ndjson). Images are numbered in the order
    of their first row, and a text's number is that of its line.

    Args:
        image_column (str): The column, or key, with the path of the image below
            ``data_prefix.img``. Defaults to 'image'.
        text_column (str): The column, or key, with the text. Defaults to 'text'.
        delimiter (str, optional): What separates the columns. Defaults to None: a comma in .csv, a
            tab in .tsv.
        **kwargs: As in :class:`mmbeit3.datasets.image_text.ImageTextDataset`, which also says what
            the items are.
    """

    kind = "table of images and texts"

    def __init__(
        self,
        image_column: str = "image",
        text_column: str = "text",
        delimiter: str | None = None,
        **kwargs: Any,
    ) -> None:
        if delimiter is not None and len(delimiter) != 1:
            raise InputError(f"delimiter is {delimiter!r}, expected one character, such as ';'")
        self.columns = (image_column, text_column)
        self.delimiter = delimiter
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images of the table, each with its texts; see the base class."""
        suffix = Path(self.ann_file).suffix.lower()
        if suffix not in (*DELIMITERS, *LINES):
            known = ", ".join((*DELIMITERS, *LINES))
            raise InputError(
                f"{self.ann_file} has the suffix {suffix!r}, expected one of {known}; captions in "
                "COCO's format (.json) are read by mmbeit3.CocoCaptionsDataset"
            )
        text = _read(self.ann_file, report)
        if suffix in LINES:
            rows = _json_rows(text, report)
        else:
            rows = self._csv_rows(text, self.delimiter or DELIMITERS[suffix], report)
        image_column, text_column = self.columns
        images: dict[str, CaptionedImage] = {}
        for line, row in rows:
            problem = self._row_problem(row)
            if problem:
                report.error(f"line {line}: {problem}")
                continue
            file, caption = row[image_column], row[text_column]
            image = images.setdefault(
                osp.normpath(file),
                CaptionedImage(len(images), file, f"line {line} ({shortened(file)})"),
            )
            image.texts.append(caption)
            image.text_ids.append(line)
        if not images and not report.num_errors:
            report.error("it has no pairs")
        return list(images.values())

    def _row_problem(self, row: dict[str, Any]) -> str | None:
        image_column, text_column = self.columns
        if absent := [column for column in self.columns if column not in row]:
            return (
                f"{' and '.join(map(repr, absent))} is missing; it has {listed(map(repr, row))}: "
                "set image_column and text_column of the data set"
            )
        file = row[image_column]
        if not is_text(file) or not file.strip():
            return f"{image_column} is {shortened(file)}, expected the path of an image"
        return text_problem(row[text_column], text_column)

    def _csv_rows(self, text: str, delimiter: str, report: Report) -> Iterator[Row]:
        """The rows of a CSV file with their line numbers, of the columns that are wanted."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if problem := self._header_problem(header, delimiter):
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

    def _header_problem(self, header: list[str], delimiter: str) -> str | None:
        absent = [column for column in self.columns if column not in header]
        if not absent:
            twice = [column for column in self.columns if header.count(column) > 1]
            return f"the column {twice[0]!r} is there twice" if twice else None
        if not header:
            return "it is empty, expected a header with the names of the columns"
        other = [sign for sign in ";\t,|" if sign != delimiter and sign in "".join(header)]
        if len(header) == 1 and other:
            cure = (
                f"the columns seem to be separated by {other[0]!r}: set delimiter of the data set"
            )
        else:
            cure = "set image_column and text_column of the data set, or add a first line with them"
        return (
            f"the header has no column {' and '.join(map(repr, absent))}; it has "
            f"{listed(map(shortened, header))}: {cure}"
        )


def _json_rows(text: str, report: Report) -> Iterator[Row]:
    """The objects of JSON Lines with their line numbers; blank lines are passed over."""
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


def _read(path: str, report: Report) -> str:
    """Read a text; of one that is not in its encoding, the lines that are wrong are reported."""
    try:
        check_regular(path)
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"there is no file {path}; check data_root and ann_file{describe_similar(path)}"
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
