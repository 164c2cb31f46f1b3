"""A class map of a large image, on disk: a tiled TIFF, written window by window."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmbeit3.inference.image_list import Source
from mmbeit3.inference.result import in_order
from mmbeit3.inference.segmentation_result import SegmentationResult
from mmbeit3.utils import InputError
from mmbeit3.utils.large_images import Georeference, Window
from mmbeit3.utils.whole_files import whole_file, writing
from mmbeit3.visualization.overlay import draw_class_map
from mmbeit3.visualization.text_labels import Color

BLOCK = 512  # pixels, the side of the tiles of the TIFF


@dataclass(eq=False, repr=False)
class TiledClassMap(SegmentationResult):
    """As :class:`SegmentationResult`, with these differences.

    Attributes:
        image (np.ndarray): An overview of the image, (h, w, 3), on which the classes are drawn.
        label_map (np.ndarray): (H, W), read from disk whenever it is asked for.
        counts (np.ndarray): Pixels of each class.
        file (Path): The map; removed with the result.
        folder (TemporaryDirectory): Where it is.
        whole_size (tuple[int, int]): H and W.
    """

    counts: np.ndarray
    file: Path
    folder: TemporaryDirectory[str]
    whole_size: tuple[int, int]

    @property  # type: ignore[misc]
    def label_map(self) -> np.ndarray:
        """The class of each pixel."""
        return self._read()

    @label_map.setter
    def label_map(self, value: np.ndarray) -> None:
        """Keep nothing: it is in the file."""

    @property
    def nbytes(self) -> int:
        """Memory of the overview."""
        return self.image.nbytes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.whole_size

    def count(self) -> np.ndarray:
        """Return the pixels of each class: (number of classes,), int64."""
        return self.counts

    def draw(self, *, legend: bool = True, channels: str = "bgr") -> np.ndarray:
        """Draw the classes on the overview; see :meth:`SegmentationResult.draw`."""
        labels = self._read(self.image.shape[:2])
        picture = draw_class_map(self.image, labels, self.classes, self.palette, legend=legend)
        return in_order(picture, channels)

    def save_label_map(self, path: str | Path) -> None:
        """Write the map as a tiled TIFF of 8 bits, with the palette and the georeference.

        Args:
            path (str | Path): A ``.tif`` file; folders are made.

        Raises:
            InputError: It has another suffix, or cannot be written; nothing of it is left.
        """
        if Path(path).suffix.lower() not in (".tif", ".tiff"):
            raise InputError(f"{path}: the class map of a tiled image is a TIFF; expected .tif")
        with whole_file(Path(path)) as partial:
            shutil.copyfile(self.file, partial)

    def _read(self, shape: tuple[int, int] | None = None) -> np.ndarray:
        import rasterio

        with rasterio.open(self.file) as labels:
            return labels.read(1, out_shape=shape)  # the nearest pixels of a smaller one


class ClassMapJoiner:
    """Writes of each tile's class map the core: the pixels whose nearest tile it is.

    Args:
        source (Source): The image.
        size (tuple[int, int]): Its height and width.
        georeference (Georeference, optional): Where it lies.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): Their BGR colors.
    """

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        georeference: Georeference | None,
        classes: Sequence[str],
        palette: Sequence[Color],
    ) -> None:
        import rasterio

        self._source, self._size, self._georeference = source, size, georeference
        self._names = classes, palette
        self._counts = np.zeros(len(classes), np.int64)
        self._folder = TemporaryDirectory(prefix="mmbeit3-")
        self._file = Path(self._folder.name, "labels.tif")
        place: dict[str, Any] = {}
        if georeference is not None:
            place = {"crs": georeference.crs, "transform": georeference.transform}
        with writing(self._file):
            self._labels = rasterio.open(
                self._file,
                "w",
                driver="GTiff",
                height=size[0],
                width=size[1],
                count=1,
                dtype="uint8",
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="deflate",
                bigtiff="if_safer",
                **place,
            )
        self._labels.write_colormap(1, dict(enumerate(color[::-1] for color in palette)))

    def add(self, window: Window, core: Window, found: SegmentationResult) -> None:
        """Write a tile's share."""
        from rasterio.windows import Window as Part

        x, y = core.x - window.x, core.y - window.y
        part = found.label_map[y : y + core.height, x : x + core.width]
        self._counts += np.bincount(part.ravel(), minlength=len(self._counts))
        with writing(self._file):
            self._labels.write(part, 1, window=Part(*core))

    def result(self, overview: np.ndarray) -> TiledClassMap:
        """Close the file, and hand it on."""
        with writing(self._file):
            self._labels.close()
        return TiledClassMap(
            self._source,
            overview,
            np.empty((0, 0), np.uint8),  # the map is in the file
            *self._names,
            self._counts,
            self._file,
            self._folder,
            self._size,
            georeference=self._georeference,
        )

    def close(self) -> None:
        """Close the file; it is removed if nobody has it."""
        self._labels.close()
