"""Images and texts of one's own: a row of a CSV file, or an object of JSON Lines, is a pair."""

from __future__ import annotations

from os import path as osp
from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, path_problem, text_problem
from mmbeit3.datasets.checks.coco import Report, shortened
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.datasets.table_rows import check_delimiter, read_rows
from mmbeit3.datasets.text_dataset import draw_images
from mmbeit3.registry import DATASETS
from mmbeit3.utils import InputError


@DATASETS.register_module()
class ImageTextTableDataset(ImageTextDataset):
    """A CSV file with a header, or JSON Lines; an image may be there several times.

    The suffix tells the format: .csv, .tsv, or .jsonl (.ndjson). Images are numbered in the order
    of their first row, and a text's number is that of its line.

    Args:
        image_column (str): The column, or key, with the path of the image below
            ``data_prefix.img``. Defaults to 'image'.
        text_column (str): The column, or key, with the text; with ``require_captions=False`` it may
            be empty or missing. Defaults to 'text'.
        delimiter (str, optional): What separates the columns. Defaults to None: a comma in .csv, a
            tab in .tsv.
        val_images (int, optional): Set so many images aside for validation, with all their texts:
            training leaves them out, and with ``test_mode`` only they are there. Which ones depends
            on all paths and ``val_seed``, not on the order of the rows. Defaults to None, all
            images in both.
        val_seed (int): Draws them. Defaults to 0.
        **kwargs: As in :class:`mmbeit3.datasets.image_text.ImageTextDataset`, which also says what
            the items are.
    """

    kind = "table of images and texts"

    def __init__(
        self,
        image_column: str = "image",
        text_column: str = "text",
        delimiter: str | None = None,
        val_images: int | None = None,
        val_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_delimiter(delimiter)
        if val_images is not None and (type(val_images) is not int or val_images < 1):
            raise InputError(f"val_images is {val_images!r}, expected a whole number from 1 on")
        self.columns = {"image_column": image_column, "text_column": text_column}
        self.delimiter = delimiter
        self.val_images, self.val_seed = val_images, val_seed
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images of the table, each with its texts; see the base class."""
        image_column, text_column = self.columns.values()
        rows = read_rows(
            self.ann_file,
            self.columns,
            report,
            optional=[] if self.require_captions else ["text_column"],
            delimiter=self.delimiter,
            other_formats="captions in COCO's format (.json) are read by "
            "mmbeit3.CocoCaptionsDataset",
        )
        images: dict[str, CaptionedImage] = {}
        for line, row in rows:
            file, caption = row[image_column], row.get(text_column)
            has_text = self.require_captions or caption not in (None, "")
            problem = path_problem(file, image_column)
            if problem is None and has_text:
                problem = text_problem(caption, text_column)
            if problem:
                report.error(f"line {line}: {problem}")
                continue
            image = images.setdefault(
                osp.normpath(file),
                CaptionedImage(len(images), file, f"line {line} ({shortened(file)})"),
            )
            if has_text and caption is not None:
                image.texts.append(caption)
                image.text_ids.append(line)
        if self.val_images is None or report.num_errors:
            return list(images.values())
        chosen = draw_images(images, self.val_images, self.val_seed, self.source)
        return [image for path, image in images.items() if (path in chosen) == self.test_mode]
