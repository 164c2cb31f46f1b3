"""What a COCO annotation file holds, image by image, whether it is in memory or on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

#: What is noted of an annotation: it is a crowd; it is an instance by mmdet's rules, if its class
#: counts; it has a mask; the mask is run-length codes.
CROWD, INSTANCE, MASK, RLE = 1, 2, 4, 8


@dataclass(eq=False)
class Columns:
    """N images and their M annotations, which stand together, as arrays.

    Attributes:
        ids: (N,) int64, of the images, in the order of the file.
        sizes: (N, 2) int32, width and height.
        ends: (N,) int64, where the annotations of each image end.
        kinds: (M,) int32, the index of the category in the file's list.
        flags: (M,) uint8, a sum of :data:`CROWD`, :data:`INSTANCE`, :data:`MASK` and :data:`RLE`.
    """

    ids: np.ndarray
    sizes: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray
    flags: np.ndarray

    def span(self, row: int) -> slice:
        """The annotations of an image."""
        return slice(int(self.ends[row - 1]) if row else 0, int(self.ends[row]))


class CocoContent:
    """The content of a file that is in memory, checked before.

    Args:
        data: The parsed file.

    Attributes:
        categories (list[dict]): As in the file.
        info (Any): As in the file.
        columns (Columns): The numbers of all entries.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.categories, self.info = data["categories"], data.get("info")
        self._images = data["images"]
        rows = {image["id"]: row for row, image in enumerate(self._images)}
        self._annotations: list[list[dict]] = [[] for _ in rows]
        for annotation in data.get("annotations", []):
            self._annotations[rows[annotation["image_id"]]].append(annotation)
        kinds = {category["id"]: index for index, category in enumerate(self.categories)}
        sizes = [(image["width"], image["height"]) for image in self._images]
        entries = [
            (kinds[annotation["category_id"]], flags_of(annotation, *size))
            for size, annotations in zip(sizes, self._annotations, strict=True)
            for annotation in annotations
        ]
        table = np.array(entries, np.int32).reshape(-1, 2)
        self.columns = Columns(
            np.array(list(rows), np.int64),
            np.array(sizes, np.int32),
            np.cumsum([len(annotations) for annotations in self._annotations]),
            table[:, 0],
            table[:, 1].astype(np.uint8),
        )

    def image(self, row: int) -> dict:
        """The entry of an image."""
        return self._images[row]

    def annotations(self, row: int) -> list[dict]:
        """The annotations of an image, in the order of the file."""
        return self._annotations[row]

    def has_backslashes(self) -> bool:
        """Whether there is one in a file name."""
        return any("\\" in name for name in self.names())

    def names(self, rows: np.ndarray | None = None) -> Iterator[str]:
        """The file names of images; of all by default."""
        chosen = range(len(self._images)) if rows is None else rows.tolist()
        return (self._images[row]["file_name"] for row in chosen)


def flags_of(annotation: Mapping[str, Any], width: int, height: int) -> int:
    """Note what matters of an annotation before its image is loaded.

    Args:
        annotation: A valid one.
        width: Of its image.
        height: Of its image.
    """
    x, y, box_width, box_height = annotation["bbox"]
    mask = annotation.get("segmentation")
    flags = CROWD if annotation.get("iscrowd") else 0
    if mask:
        flags |= MASK | RLE if isinstance(mask, dict) else MASK
    if annotation.get("ignore") or annotation["area"] <= 0 or box_width < 1 or box_height < 1:
        return flags
    shown_width = max(0, min(x + box_width, width) - max(x, 0))
    shown_height = max(0, min(y + box_height, height) - max(y, 0))
    return flags | INSTANCE if shown_width * shown_height else flags


class Infos(Sequence[dict]):
    """What a data set lists of images, made of their entries whenever it is asked for.

    Args:
        content: The file.
        rows: (N,), its images.
        parse: Makes the item of an image of its row.
        path: Makes the path of an image of its file name.
    """

    def __init__(
        self,
        content: CocoContent,
        rows: np.ndarray,
        parse: Callable[[CocoContent, int], dict],
        path: Callable[[str], str],
    ) -> None:
        self.content, self.rows = content, rows
        self._parse, self._path = parse, path

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> Infos: ...

    def __getitem__(self, index: int | slice) -> dict | Infos:
        if isinstance(index, slice):
            return self.select(self.rows[index])
        return self._parse(self.content, int(self.rows[index]))

    def __deepcopy__(self, memo: dict) -> Infos:
        return self.select(self.rows.copy())  # the items are new ones at any rate

    def select(self, rows: np.ndarray) -> Infos:
        """Those of some images of the file."""
        return Infos(self.content, rows, self._parse, self._path)

    def files(self) -> Iterator[tuple[str, int, int]]:
        """Path, width and height of each image."""
        sizes = self.content.columns.sizes[self.rows].tolist()
        for name, (width, height) in zip(self.content.names(self.rows), sizes, strict=True):
            yield self._path(name), width, height
