"""Data sets of images with texts: pairs to train on, images with all their texts to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import path as osp
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmbeit3.datasets.checks.captions import CaptionedImage, check_captions
from mmbeit3.datasets.checks.coco import MAX_EXAMPLES, Report, raise_on_errors
from mmbeit3.datasets.image_files import ImageFile, check_image_files
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.utils import InputError


class ImageTextDataset(BaseDataset):
    """Images with texts, checked when they are loaded; a format is a subclass with a reader.

    For training an item is one pair, and every caption of an image makes one, as in the released
    code; with ``test_mode`` an item is an image with all its captions. Both have the keys
    ``image_id`` (int), ``img_path``, ``texts`` (list[str]; of a pair, one) and ``text_ids``
    (list[int]); ``domain`` is there where the file has it, as NoCaps'. Images without a caption are
    left out with a warning.

    Args:
        ann_file (str): The file of the captions, on ``data_root``.
        data_root (str, optional): Where relative paths start. Defaults to None.
        data_prefix (dict, optional): ``img``, the folder of the images, on ``data_root``. Defaults
            to None, ``data_root``.
        require_captions (bool): Whether images need a caption. False keeps those that have none,
            as the images of a test whose captions are not public. Defaults to True.
        **kwargs: ``pipeline``, ``test_mode``, ``indices``, ``lazy_init``, ... as in
            ``mmengine.dataset.BaseDataset``.

    Raises:
        InputError: The file is absent or malformed, an entry cannot be used (all are counted, the
            first ten named), or images are missing, cut off or of another size than the file says.
    """

    METAINFO: dict = {}
    #: What a usable file is, for messages.
    kind = "file of captions"

    def __init__(
        self,
        ann_file: str,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        require_captions: bool = True,
        **kwargs: Any,
    ) -> None:
        if not ann_file:
            raise InputError(f"{type(self).__name__} has no ann_file: set it to a {self.kind}")
        data_prefix = dict(data_prefix or {"img": ""})
        if set(data_prefix) != {"img"}:
            raise InputError(f"data_prefix has the keys {sorted(data_prefix)}, expected 'img'")
        if not require_captions and not kwargs.get("test_mode"):
            raise InputError(
                "require_captions=False is for tests, as training needs pairs: set test_mode=True"
            )
        self.require_captions = require_captions
        super().__init__(
            ann_file=ann_file, data_root=data_root or "", data_prefix=data_prefix, **kwargs
        )

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images that the file has, each with its texts.

        Args:
            report: Takes what is wrong with which entry.

        Raises:
            InputError: The file cannot be read at all.
        """
        raise NotImplementedError

    def inspect(self, max_examples: int = MAX_EXAMPLES) -> tuple[list[CaptionedImage], Report]:
        """Read and check the file of the captions; the images themselves are not looked at.

        Args:
            max_examples: How many errors, and how many warnings, are kept in words. Defaults to 10.

        Returns:
            The images that are used, and what is wrong or doubtful.
        """
        report = Report(max_examples=max_examples)
        images = self.read(report)
        return check_captions(images, report, self.require_captions), report

    def load_data_list(self) -> list[dict]:
        """Read the items, see the class."""
        images, report = self.inspect()
        raise_on_errors(report, self.ann_file, self.kind)
        return self.items_of(images)

    def items_of(self, images: Iterable[CaptionedImage]) -> list[dict]:
        """Turn images with captions into the items of the data set."""
        items = [self._item(image, image.texts, image.text_ids) for image in self._named(images)]
        if self.test_mode:
            return items
        return [
            item | {"texts": [text], "text_ids": [number]}
            for item in items
            for text, number in zip(item["texts"], item["text_ids"], strict=True)
        ]

    def _named(self, images: Iterable[CaptionedImage]) -> Sequence[CaptionedImage]:
        """Read backslashes of names that Windows wrote as what they mean there."""
        images = list(images)
        with_backslash = [image.file for image in images if "\\" in image.file]
        if with_backslash and not osp.exists(self._path(with_backslash[0])):
            text = f"{self.ann_file}: {len(with_backslash)} file names have backslashes, the first "
            print_log(f"{text}is {with_backslash[0]!r}; they are read as /", "current")
            for image in images:
                image.file = image.file.replace("\\", "/")
        return images

    def _path(self, file: str) -> str:
        return osp.join(self.data_prefix["img"], file)

    def _item(self, image: CaptionedImage, texts: list[str], text_ids: list[int]) -> dict:
        item = {
            "image_id": image.image_id,
            "img_path": self._path(image.file),
            "texts": texts,
            "text_ids": text_ids,
            "size": (image.width, image.height),
        }
        return item if image.domain is None else item | {"domain": image.domain}

    def filter_data(self) -> list[dict]:
        """Check the files of the images; all items are kept.

        Raises:
            InputError: Files are missing, cut off, or of another size.
        """
        loader = image_loader(self.pipeline.transforms)
        root = self.data_prefix["img"] or None
        check_image_files(image_files(self.data_list), self.ann_file, loader, root)
        return self.data_list


def image_files(items: Iterable[dict]) -> list[ImageFile]:
    """The files of a data set's items, each once, with the sizes that its file gives them."""
    sizes = {item["img_path"]: item["size"] for item in items}
    return [ImageFile(path, *size) for path, size in sizes.items()]
