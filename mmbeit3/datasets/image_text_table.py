"""Images and texts of one's own: a row of a CSV file, or an object of JSON Lines, is a pair."""

from __future__ import annotations

from os import path as osp
from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, text_problem
from mmbeit3.datasets.checks.coco import Report, is_text, shortened
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.datasets.table_rows import check_delimiter, read_rows
from mmbeit3.registry import DATASETS


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
        check_delimiter(delimiter)
        self.columns = {"image_column": image_column, "text_column": text_column}
        self.delimiter = delimiter
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images of the table, each with its texts; see the base class."""
        rows = read_rows(
            self.ann_file,
            self.columns,
            report,
            delimiter=self.delimiter,
            other_formats="captions in COCO's format (.json) are read by "
            "mmbeit3.CocoCaptionsDataset",
        )
        image_column, text_column = self.columns.values()
        images: dict[str, CaptionedImage] = {}
        for line, row in rows:
            file, caption = row[image_column], row[text_column]
            problem = path_problem(file, image_column) or text_problem(caption, text_column)
            if problem:
                report.error(f"line {line}: {problem}")
                continue
            image = images.setdefault(
                osp.normpath(file),
                CaptionedImage(len(images), file, f"line {line} ({shortened(file)})"),
            )
            image.texts.append(caption)
            image.text_ids.append(line)
        if not images and not report.num_errors:
            report.error("it has no pairs")
        return list(images.values())


def path_problem(file: Any, key: str) -> str | None:
    """What keeps a value from being the path of an image.

    Args:
        file: The value.
        key: What the file calls it.
    """
    if not is_text(file) or not file.strip():
        return f"{key} is {shortened(file)}, expected the path of an image"
    return None
