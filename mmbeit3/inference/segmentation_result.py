"""The class of every pixel of an image, and the forms in which others take it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmbeit3.inference.result import Predicted, in_order
from mmbeit3.ops import encode_masks
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.utils.whole_files import whole_file
from mmbeit3.visualization.overlay import draw_class_map
from mmbeit3.visualization.text_labels import Color


@dataclass(eq=False, repr=False)
class SegmentationResult(Predicted):
    """A class for every pixel of an image.

    Attributes:
        label_map (np.ndarray): (H, W), indices of ``classes``, uint8.
        classes (Sequence[str]): Names of all classes that the model knows.
        palette (Sequence[tuple]): BGR color of each class.
    """

    label_map: np.ndarray
    classes: Sequence[str]
    palette: Sequence[Color]

    @property
    def nbytes(self) -> int:
        """Memory of the two arrays."""
        return self.image.nbytes + self.label_map.nbytes

    @property
    def names(self) -> list[str]:
        """The classes found, the largest first."""
        return list(self.shares)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, by its name, the largest first."""
        return shares_of(self.count(), self.classes)

    def count(self) -> np.ndarray:
        """Count the pixels of each class: (number of classes,), int64."""
        return np.bincount(self.label_map.ravel(), minlength=len(self.classes))

    def draw(self, *, legend: bool = True, channels: str = "bgr") -> np.ndarray:
        """Draw the classes on the image, as a run over a folder does.

        Args:
            legend (bool): Whether to name the classes found below the image. Defaults to True.
            channels (str): 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            np.ndarray: The picture, (h, w, 3), uint8; small and very large images are resized to a
            size that is comfortable to look at.
        """
        picture = draw_class_map(
            self.image, self.label_map, self.classes, self.palette, legend=legend
        )
        return in_order(picture, channels)

    def save_label_map(self, path: str | Path) -> None:
        """Write ``label_map`` as an 8-bit PNG whose pixels are the indices, with the palette.

        Args:
            path (str | Path): The file; folders are made.

        Raises:
            InputError: It cannot be written; nothing of it is left.
        """
        colors = [value for color in self.palette for value in reversed(color)]
        image = Image.fromarray(self.label_map).convert("P")
        image.putpalette(colors + [0] * (3 * 256 - len(colors)))  # fewer would mean fewer bits
        with whole_file(Path(path)) as partial:
            image.save(partial, "PNG")

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """Return the classes as entries of a results list of COCO's stuff task.

        Args:
            image_id (int, optional): The image's id. Defaults to its number in the run.

        Returns:
            list[dict]: For each class found ``image_id``, ``file_name``, ``category_id`` (the index
            + 1), ``category`` and ``segmentation`` (RLE).
        """
        labels, masks = self._masks()
        image_id = self.source.image_id if image_id is None else image_id
        return [
            {
                "image_id": image_id,
                "file_name": self.source.file_name,
                "category_id": label + 1,
                "category": self.classes[label],
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
            }
            for label, code in zip(labels.tolist(), encode_masks(masks), strict=True)
        ]

    def to_json(self) -> str:
        """Return the image's facts and, under ``segments``, what :meth:`to_coco` does."""
        return json.dumps(self._facts() | {"shares": self.shares, "segments": self.to_coco()})

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` of the classes found: ``label name pixels share``.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = optional_package("pandas", "to_pandas")
        counts = self.count()
        labels = [label for label in np.argsort(-counts, kind="stable") if counts[label]]
        names, pixels = [self.classes[label] for label in labels], counts[labels]
        shares = pixels / self.label_map.size
        return pandas.DataFrame(dict(label=labels, name=names, pixels=pixels, share=shares))

    def to_supervision(self) -> Any:
        """Return the classes found as ``supervision.Detections``, a mask for each.

        Raises:
            InputError: supervision is not installed.
        """
        labels, masks = self._masks()
        return optional_package("supervision", "to_supervision").Detections(
            xyxy=np.array([_box(mask) for mask in masks], np.float32),
            mask=masks,
            class_id=labels.astype(np.int64),
            data={"class_name": np.array([self.classes[label] for label in labels], dtype=str)},
        )

    def _masks(self) -> tuple[np.ndarray, np.ndarray]:
        """The classes found, (K,), and their masks, (K, H, W)."""
        labels = np.unique(self.label_map)
        return labels, self.label_map == labels[:, None, None]

    def __repr__(self) -> str:
        found = ", ".join(f"{share:.0%} {name}" for name, share in self.shares.items())
        return f"SegmentationResult({self.source.file_name}: {found})"


def shares_of(counts: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Turn counts of pixels, (number of classes,), to shares by name, the largest first."""
    order = np.argsort(-counts, kind="stable").tolist()
    shares = (counts / counts.sum()).tolist()
    return {classes[index]: round(shares[index], 6) for index in order if counts[index]}


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box around a mask (H, W) that is not empty: x1 y1 x2 y2, the ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
