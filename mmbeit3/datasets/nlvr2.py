"""Sentences about two images that are true or false: NLVR2, and tables of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import path as osp
from typing import Any

from mmbeit3.datasets.checks.captions import path_problem, text_problem
from mmbeit3.datasets.checks.coco import MAX_EXAMPLES, Report, missing_key, shortened
from mmbeit3.datasets.checks.statements import Statement, check_statements, read_label
from mmbeit3.datasets.table_rows import check_delimiter, json_rows, read_lines, read_rows
from mmbeit3.datasets.text_dataset import TextDataset
from mmbeit3.registry import DATASETS

# split, set of images, pair of the set, sentence
IDENTIFIER = re.compile(r"[^-/\\\0]+(?:-\d+){3}")
NAME = re.compile(r"[^/\\\0]+")


class StatementsDataset(TextDataset):
    """Pairs of images with sentences; a format is a subclass with a reader.

    An item is a statement: ``img_path`` (list[str], left and right), ``identifier`` (str),
    ``texts`` (list[str], the sentence), ``text_ids`` (list[int], its number, from 0 on) and
    ``gt_label``, 0 for 'False' and 1 for 'True', where that is known.

    Args:
        ann_file (str): The file of the statements, on ``data_root``.
        **kwargs: As in :class:`mmbeit3.datasets.text_dataset.TextDataset`.

    Raises:
        InputError: See there.
    """

    METAINFO: dict = {"classes": ("False", "True")}
    kind = "file of statements"
    text_name = "statements"

    @classmethod
    def read_class_names(cls, config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Give the classes of all such data sets: ('type', ('False', 'True'))."""
        return "type", tuple(cls.METAINFO["classes"])

    def inspect(self, max_examples: int = MAX_EXAMPLES) -> tuple[list[Statement], Report]:
        """Read and check the statements; see the base class."""
        statements, report = super().inspect(max_examples)
        check_statements(statements, report, required=not self.test_mode)
        return statements, report

    def items_of(self, entries: Iterable[Statement]) -> list[dict]:
        """Turn statements into the items of the data set."""
        return [
            {
                "img_path": self.paths_of(statement),
                "identifier": statement.identifier,
                "texts": statement.texts,
                "text_ids": [number],
            }
            | ({} if statement.label is None else {"gt_label": statement.label})
            for number, statement in enumerate(entries)
        ]


@DATASETS.register_module()
class NLVR2Dataset(StatementsDataset):
    """An official file, train.json, dev.json or test1.json: an object a line.

    Each has ``identifier``, ``sentence``, ``label``, and in train ``directory``. The images of
    dev-850-0-1 are dev-850-0-img0.png and dev-850-0-img1.png below ``data_prefix.img`` (images/
    train, dev or test1), in the folder that ``directory`` says.

    Arguments and items as in :class:`mmbeit3.datasets.nlvr2.StatementsDataset`.
    """

    kind = "NLVR2 file"

    def read(self, report: Report) -> list[Statement]:
        """Read the statements of the file; see the base class."""
        found: dict[str, Statement] = {}
        for line, row in json_rows(read_lines(self.ann_file, report), report):
            problem = _row_problem(row)
            if problem is None and row["identifier"] in found:
                problem = f"{found[row['identifier']].place} has the same identifier"
            label, label_problem = _label(row, "label")
            if problem := problem or label_problem:
                report.error(f"line {line}: {problem}")
                continue
            identifier = row["identifier"]
            stem = osp.join(str(row.get("directory", "")), identifier.rpartition("-")[0])
            files = [f"{stem}-img0.png", f"{stem}-img1.png"]
            place = f"line {line} ({identifier})"
            found[identifier] = Statement(identifier, row["sentence"], files, place, label)
        return list(found.values())


@DATASETS.register_module()
class NLVR2TableDataset(StatementsDataset):
    """A CSV file with a header, or JSON Lines: a row is two images and a sentence.

    The suffix tells the format: .csv, .tsv, or .jsonl (.ndjson). A statement's identifier is the
    number of its line. With ``test_mode`` the column of the labels may be absent.

    Args:
        ann_file (str): The table, on ``data_root``.
        left_column (str): The column, or key, with the path of the left image below
            ``data_prefix.img``. Defaults to 'left'.
        right_column (str): That of the right image. Defaults to 'right'.
        text_column (str): The column, or key, with the sentence. Defaults to 'text'.
        label_column (str): The column, or key, with 'True' or 'False', in any case, or JSON's own.
            Defaults to 'label'.
        delimiter (str, optional): What separates the columns. Defaults to None: a comma in .csv, a
            tab in .tsv.
        **kwargs: As in :class:`mmbeit3.datasets.nlvr2.StatementsDataset`, which also says what the
            items are.
    """

    kind = "table of statements"

    def __init__(
        self,
        left_column: str = "left",
        right_column: str = "right",
        text_column: str = "text",
        label_column: str = "label",
        delimiter: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_delimiter(delimiter)
        self.columns = {
            "left_column": left_column,
            "right_column": right_column,
            "text_column": text_column,
            "label_column": label_column,
        }
        self.delimiter = delimiter
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[Statement]:
        """Read the statements of the table; see the base class."""
        left, right, text, label_key = self.columns.values()
        rows = read_rows(
            self.ann_file,
            self.columns,
            report,
            ["label_column"] if self.test_mode else [],
            self.delimiter,
            "NLVR2's own files (.json) are read by mmbeit3.NLVR2Dataset",
        )
        statements = []
        for line, row in rows:
            files = [row[left], row[right]]
            label, label_problem = _label(row, label_key)
            problem = (
                path_problem(files[0], left)
                or path_problem(files[1], right)
                or text_problem(row[text], text)
                or label_problem
            )
            if problem:
                report.error(f"line {line}: {problem}")
                continue
            place = f"line {line}"
            statements.append(Statement(str(line), row[text], files, place, label))
        return statements


def _row_problem(row: dict) -> str | None:
    if problem := missing_key(row, ("identifier", "sentence")):
        return problem
    identifier, folder = row["identifier"], row.get("directory", 0)
    if not isinstance(identifier, str) or not IDENTIFIER.fullmatch(identifier):
        return (
            f"identifier is {shortened(identifier)}, expected split, set, pair and sentence, such "
            "as 'dev-850-0-1'"
        )
    if type(folder) is not int and not (isinstance(folder, str) and NAME.fullmatch(folder)):
        return f"directory is {shortened(folder)}, expected the name of a folder"
    return text_problem(row["sentence"], "sentence")


def _label(row: dict, key: str) -> tuple[int | None, str | None]:
    """The label of a row, and what is wrong with it; neither where it has none."""
    if key not in row:
        return None, None
    label = read_label(row[key])
    if label is None:
        return None, f"{key} is {shortened(row[key])}, expected 'True' or 'False'"
    return label, None
