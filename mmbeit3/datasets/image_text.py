"""Data sets of images with texts: pairs to train on, images with all their texts to evaluate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, check_captions
from mmbeit3.datasets.checks.coco import MAX_EXAMPLES, Report
from mmbeit3.datasets.text_dataset import TextDataset
from mmbeit3.utils import InputError


class ImageTextDataset(TextDataset):
    """Images with texts, checked when they are loaded; a format is a subclass with a reader.

    For training an item is one pair, and every caption of an image makes one, as in the released
    code; with ``test_mode`` an item is an image with all its captions. Both have the keys
    ``image_id`` (int), ``img_path``, ``texts`` (list[str]; of a pair, one) and ``text_ids``
    (list[int]); ``domain`` is there where the file has it, as NoCaps'. Images without a caption are
    left out with a warning.

    Args:
        ann_file (str): The file of the captions, on ``data_root``.
        require_captions (bool): Whether images need a caption. False keeps those that have none,
            as the images of a test whose captions are not public. Defaults to True.
        **kwargs: As in :class:`mmbeit3.datasets.text_dataset.TextDataset`.

    Raises:
        InputError: The file is absent or malformed, an entry cannot be used (all are counted, the
            first ten named), or images are missing, cut off or of another size than the file says.
    """

    kind = "file of captions"
    text_name = "captions"

    def __init__(self, ann_file: str, require_captions: bool = True, **kwargs: Any) -> None:
        if not require_captions and not kwargs.get("test_mode"):
            raise InputError(
                "require_captions=False is for tests, as training needs pairs: set test_mode=True"
            )
        self.require_captions = require_captions
        super().__init__(ann_file=ann_file, **kwargs)

    def inspect(self, max_examples: int = MAX_EXAMPLES) -> tuple[list[CaptionedImage], Report]:
        """Read and check the captions; see the base class."""
        images, report = super().inspect(max_examples)
        return check_captions(images, report, self.require_captions), report

    def items_of(self, images: Iterable[CaptionedImage]) -> list[dict]:
        """Turn images with captions into the items of the data set."""
        items = [self._item(image, image.texts, image.text_ids) for image in images]
        if self.test_mode:
            return items
        return [
            item | {"texts": [text], "text_ids": [number]}
            for item in items
            for text, number in zip(item["texts"], item["text_ids"], strict=True)
        ]

    def _item(self, image: CaptionedImage, texts: list[str], text_ids: list[int]) -> dict:
        item = {
            "image_id": image.image_id,
            "img_path": self.paths_of(image)[0],
            "texts": texts,
            "text_ids": text_ids,
            "size": (image.width, image.height),
        }
        return item if image.domain is None else item | {"domain": image.domain}
