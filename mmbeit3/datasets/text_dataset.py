"""What data sets of images with texts have in common: files checked entry by entry when loaded."""

from __future__ import annotations

import random
from collections.abc import Iterable
from os import path as osp
from typing import Any, Protocol, TypeVar

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmbeit3.datasets.checks.coco import MAX_EXAMPLES, Report, raise_on_errors
from mmbeit3.datasets.image_files import ImageFile, check_image_files
from mmbeit3.datasets.transforms.image_codes import check_codes
from mmbeit3.datasets.transforms.loading import image_loader
from mmbeit3.utils import InputError

Key = TypeVar("Key", int, str)


class Entry(Protocol):
    """What a file has of one item, or of several: an image or more, and texts."""

    @property
    def files(self) -> list[str]:
        """Paths of the images below their folder."""

    @property
    def texts(self) -> list[str]:
        """What a model reads."""

    @property
    def lines(self) -> list[str]:
        """What a page says of it."""


class TextDataset(BaseDataset):
    """Images with texts; a task is a subclass with a reader of its formats.

    Args:
        ann_file (str): The file of the texts, on ``data_root``.
        data_root (str, optional): Where relative paths start. Defaults to None.
        data_prefix (dict, optional): ``img``, the folder of the images, on ``data_root``. Defaults
            to None, ``data_root``.
        **kwargs: ``pipeline``, ``test_mode``, ``indices``, ``lazy_init``, ... as in
            ``mmengine.dataset.BaseDataset``.

    Raises:
        InputError: A file is absent or malformed, an entry cannot be used (all are counted, the
            first ten named), or images are missing or cut off.
    """

    #: What a usable file is, for messages.
    kind = "file of texts"
    #: What its texts are.
    text_name = "texts"
    #: Whether it is read from ``ann_file``.
    needs_ann_file = True

    def __init__(
        self,
        ann_file: str = "",
        data_root: str | None = None,
        data_prefix: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not ann_file and self.needs_ann_file:
            raise InputError(f"{type(self).__name__} has no ann_file: set it to a {self.kind}")
        data_prefix = dict(data_prefix or {"img": ""})
        if set(data_prefix) != {"img"}:
            raise InputError(f"data_prefix has the keys {sorted(data_prefix)}, expected 'img'")
        self._reads_backslashes: bool | None = None  # the first name that has one tells
        super().__init__(
            ann_file=ann_file, data_root=data_root or "", data_prefix=data_prefix, **kwargs
        )

    @property
    def source(self) -> str:
        """str: What to call the data in messages."""
        return self.ann_file

    def read(self, report: Report) -> list[Any]:
        """Read the entries (list[Entry]).

        Args:
            report: Takes what is wrong with which entry.

        Raises:
            InputError: A file cannot be read at all.
        """
        raise NotImplementedError

    def inspect(self, max_examples: int = MAX_EXAMPLES) -> tuple[list[Any], Report]:
        """Read and check the files of the texts; the images themselves are not looked at.

        Args:
            max_examples: How many errors, and how many warnings, are kept in words. Defaults to 10.

        Returns:
            The entries that are used (list[Entry]), and what is wrong or doubtful.
        """
        report = Report(max_examples=max_examples)
        entries = self.read(report)
        if not entries and not report.num_errors:
            report.error(f"it has no {self.text_name}")
        return entries, report

    def load_data_list(self) -> list[dict]:
        """Read the items, see the class."""
        entries, report = self.inspect()
        raise_on_errors(report, self.source, self.kind)
        return self.items_of(entries)

    def items_of(self, entries: Iterable[Any]) -> list[dict]:
        """Turn entries into the items of the data set."""
        raise NotImplementedError

    def paths_of(self, entry: Entry) -> list[str]:
        """Give the paths of an entry's images; backslashes that Windows wrote are read as /."""
        return [self._path(file) for file in entry.files]

    def _path(self, file: str) -> str:
        path = osp.join(self.data_prefix["img"], file)
        if "\\" not in file:
            return path
        if self._reads_backslashes is None:
            self._reads_backslashes = not osp.exists(path)
            if self._reads_backslashes:
                text = f"{self.source}: file names have backslashes, the first is {file!r}; they "
                print_log(f"{text}are read as /", "current")
        if not self._reads_backslashes:
            return path
        return osp.join(self.data_prefix["img"], file.replace("\\", "/"))

    def filter_data(self) -> list[dict]:
        """Check the files of the images; all items are kept.

        Raises:
            InputError: Files are missing, cut off, or of another size.
        """
        loader = image_loader(self.pipeline.transforms)
        root = self.data_prefix["img"] or None
        files = image_files(self.data_list)
        check_image_files(files, self.source, loader, root)
        check_codes(self.pipeline.transforms, [file.path for file in files])
        return self.data_list


def draw_images(images: Iterable[Key], number: int, seed: int, source: str) -> set[Key]:
    """Draw the images that are set aside for validation, whatever the order of the data.

    Args:
        images: Names or ids of all images.
        number: ``val_images`` of the data set.
        seed: ``val_seed`` of the data set.
        source: What to call the data in messages.

    Raises:
        InputError: There are not more images than that.
    """
    drawn = sorted(set(images))
    if len(drawn) <= number:
        raise InputError(
            f"val_images is {number}, and {source} has {len(drawn)} images: set it below that"
        )
    random.Random(seed).shuffle(drawn)
    return set(drawn[:number])


def image_files(items: Iterable[dict]) -> list[ImageFile]:
    """The files of a data set's items, each once, with the sizes that its file gives them."""
    sizes = {}
    for item in items:
        paths = item["img_path"]
        for path in [paths] if isinstance(paths, str) else paths:
            sizes[path] = item.get("size", (None, None))
    return [ImageFile(path, *size) for path, size in sizes.items()]
