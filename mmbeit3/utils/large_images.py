"""Images too large for memory, read by window, and where on the earth they lie."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmbeit3.utils.errors import InputError, listed
from mmbeit3.utils.image_reading import (
    TURNS,
    exif_orientation,
    scale_to_bytes,
    tiff_orientation,
    to_bgr,
)
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.utils.regular_files import refuse_endless

#: What GDAL may open: none that names other files or servers. Of JPEG it makes other colors than
#: the reader of whole files, of GIF and WebP it decodes all for each window.
FORMATS = ("GTiff", "PNG", "BMP", "JP2OpenJPEG")
#: MB of decoded blocks that GDAL keeps, unless the variable is set already; else 5 % of the memory.
CACHE = ("GDAL_CACHEMAX", "256")
STRIP = 2**24  # pixels that are looked at together for the range of values
COLORS = ("red", "green", "blue")


class Window(NamedTuple):
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    def common(self, other: Window) -> Window:
        """The rectangle that lies in both; its sides may be 0."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Window(x, y, max(0, right - x), max(0, bottom - y))


@dataclass(frozen=True)
class Georeference:
    """Where the pixels of an image lie.

    Args:
        crs (rasterio.crs.CRS): The system of the coordinates.
        transform (affine.Affine): From columns and rows of pixel corners to them.
    """

    crs: Any
    transform: Any


def tile_package() -> Any:
    """Import rasterio.

    Raises:
        InputError: It is not installed.
    """
    os.environ.setdefault(*CACHE)  # read once, when GDAL first needs it
    return optional_package("rasterio", "reading an image by tiles", "tiles")


class ArrayImage:
    """An image in memory, by the same methods as :class:`LargeImage`.

    Args:
        pixels (np.ndarray): (H, W, 3), BGR, uint8.
    """

    georeference: Georeference | None = None

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.size = pixels.shape[:2]

    def read(self, window: Window) -> np.ndarray:
        """Copy a window: (h, w, 3)."""
        x, y, width, height = window
        return self._pixels[y : y + height, x : x + width].copy()

    def reduced(self, longest: int) -> np.ndarray:
        """The image with a long side of at most ``longest`` pixels."""
        height, width = _reduced(self.size, longest)
        return cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Do nothing: there is no file."""


class LargeImage:
    """An image file that is read by window, as a person sees it.

    The rules are those of :func:`mmbeit3.utils.image_reading.decode_image`: EXIF turns it,
    transparency lies on white, more than 8 bits are stretched to the range of the whole image,
    for which it is read once. Of more than four bands, or four without transparency, those called
    red, green and blue count. Values that the file calls absent (nodata) are out of the range.

    Args:
        path (Path): The file.
        turn (bool): Whether to turn it by its EXIF orientation. Defaults to True.

    Attributes:
        size (tuple[int, int]): Height and width.
        georeference (Georeference, optional): None if the file has no transform with a CRS.

    Raises:
        InputError: rasterio is not installed; or the file cannot be used, and the message is the
            reason, without the path.
        NotOpenedError: GDAL does not know the format.
    """

    def __init__(self, path: Path, turn: bool = True) -> None:
        rasterio = tile_package()
        refuse_endless(path)
        with warnings.catch_warnings(), rasterio.Env():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:  # rasterio.open takes one format
                self._file = rasterio.io.DatasetReader(str(path.absolute()), driver=list(FORMATS))
            except rasterio.errors.RasterioIOError as error:
                raise NotOpenedError(str(error)) from None
            self._lock = threading.Lock()  # GDAL reads a file in one thread at a time
            try:
                self._inspect(path, turn)
            except BaseException:
                self.close()
                raise

    def _inspect(self, path: Path, turn: bool) -> None:
        file = self._file
        names = [color.name for color in file.colorinterp]
        self._is_palette = names[0] == "palette"
        self._bands = _bands(names)
        self._has_alpha = "alpha" in names
        orientation = _orientation(file, path) if turn else 1
        self._turn = orientation if orientation in TURNS else 1
        self._stored = (file.height, file.width)
        self.size = self._stored[::-1] if self._turn >= 5 else self._stored
        placed = file.crs is not None and not file.transform.is_identity and self._turn == 1
        self.georeference = Georeference(file.crs, file.transform) if placed else None
        self._is_inverted = file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        self._range: tuple[float, float] | None = None
        kind = np.dtype(file.dtypes[0])
        if kind.kind not in "uif":
            raise InputError(f"its values are of type {kind}; expected integers or real numbers")
        if kind != np.uint8:
            self._range = self._find_range()

    def read(self, window: Window) -> np.ndarray:
        """Read a window.

        Args:
            window (Window): It lies in the image.

        Returns:
            np.ndarray: (h, w, 3), BGR, uint8.

        Raises:
            InputError: The file is damaged there.
        """
        from rasterio.windows import Window as Part

        part = Part(*_stored(window, self._turn, self._stored))
        return self._seen(self._values(window=part))

    def reduced(self, longest: int) -> np.ndarray:
        """Read the image with a long side of at most ``longest`` pixels."""
        from rasterio.enums import Resampling

        height, width = _reduced(self._stored, longest)
        resampling = Resampling.nearest if self._is_palette else Resampling.average
        shape = (len(self._bands), height, width)
        return self._seen(self._values(out_shape=shape, resampling=resampling))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _values(self, **options: Any) -> np.ndarray:
        """Bands of the file, (h, w, bands)."""
        try:
            with self._lock:
                values = self._file.read(self._bands, **options)
        except Exception as error:  # rasterio has several, none of them for this alone
            reason = error.__cause__ or error
            raise InputError(f"cannot be read there ({reason}); copy the file anew") from None
        return np.moveaxis(values, 0, -1)

    def _seen(self, values: np.ndarray) -> np.ndarray:
        """Turn values, (h, w, bands), to what a person sees."""
        if self._is_palette:
            table = np.zeros((256, 4), np.uint8)
            for index, color in self._file.colormap(1).items():
                table[index] = color
            pixels = to_bgr(table[values[..., 0]][..., [2, 1, 0, 3]])
        else:
            color = values[..., :-1] if self._has_alpha else values
            if self._range is not None:
                color = scale_to_bytes(color.astype(np.float64), *self._range)
            color = 255 - color if self._is_inverted else color
            if color.shape[2] == 3:
                color = color[..., ::-1]
            if self._has_alpha:
                alpha = values[..., -1:]
                full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
                alpha = np.rint(np.clip(alpha / full, 0, 1) * 255).astype(np.uint8)
                color = np.concatenate([color, alpha], 2)
            pixels = to_bgr(np.ascontiguousarray(color))
        turned = TURNS[self._turn](pixels) if self._turn > 1 else pixels
        return np.ascontiguousarray(turned)

    def _find_range(self) -> tuple[float, float]:
        """The lowest and the highest value of all pixels that are seen."""
        from rasterio.windows import Window as Part

        height, width = self._stored
        rows = max(1, STRIP // width)
        low, high = np.inf, -np.inf
        for y in range(0, height, rows):
            values = self._values(window=Part(0, y, width, min(rows, height - y)))
            counts = np.isfinite(values)
            if self._has_alpha:
                counts &= values[..., -1:] > 0
                values, counts = values[..., :-1], counts[..., :-1]
            if self._file.nodata is not None:
                counts &= values != self._file.nodata
            found = values[counts]
            if found.size:
                low, high = min(low, float(found.min())), max(high, float(found.max()))
        return (low, high) if low <= high else (0.0, 0.0)


class NotOpenedError(Exception):
    """A file that is in no format of :data:`FORMATS`."""


def _bands(names: Sequence[str]) -> list[int]:
    """The bands that are seen, from 1: gray, or red, green and blue; and alpha."""
    alpha = [names.index("alpha") + 1] if "alpha" in names else []
    if all(color in names for color in COLORS):
        return [names.index(color) + 1 for color in COLORS] + alpha
    others = [number for number, name in enumerate(names, 1) if name != "alpha"]
    if len(others) in (1, 3) and "cyan" not in names:
        return others + alpha
    raise InputError(
        f"it has {len(names)} bands ({listed(names)}); expected gray, or red, green and blue, with "
        "or without alpha: pick them, such as rio stack IN.tif --bidx 4,3,2 --photometric rgb "
        "-o OUT.tif"
    )


def _orientation(file: Any, path: Path) -> int:
    """The EXIF orientation of an open file."""
    if file.driver == "GTiff":
        return tiff_orientation(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return exif_orientation(image)
    except (OSError, Image.DecompressionBombError):  # GDAL may open what Pillow does not
        return 1


def _stored(window: Window, turn: int, size: tuple[int, int]) -> Window:
    """Where a window of a turned image lies in the file, whose size (height, width) is given."""
    x, y, width, height = window
    if turn >= 5:
        x, y, width, height = y, x, height, width
    if turn in (2, 3, 7, 8):
        x = size[1] - x - width
    if turn in (3, 4, 6, 7):
        y = size[0] - y - height
    return Window(x, y, width, height)


def _reduced(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
