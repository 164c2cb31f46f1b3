"""Loading images of other than three channels, such as those of satellites."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbeit3.datasets.transforms.loading import UNREADABLE, LoadImageFromFile
from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import scale_to_bytes, to_bgr
from mmbeit3.utils.optional_packages import optional_package
from mmbeit3.utils.regular_files import refuse_endless

PERCENTILES = (2, 98)  # of a band's values, drawn as black and full


@TRANSFORMS.register_module()
class LoadMultibandImage(LoadImageFromFile):
    """Load bands of an image as they are, by rasterio (any format of GDAL, GeoTIFF above all).

    Values stay as they are in the file, without stretching, as float32; NaN, infinite ones and
    those that the file calls absent (nodata) become 0. Nothing is turned. The model's
    ``data_preprocessor`` must be one for as many channels.

    Required key: ``img_path``, or ``img`` (H, W, C), an array that has the bands already. Added
    keys: ``img`` (H, W, C), float32; ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        bands (Sequence[int]): Numbers of the bands in the file, from 1 as GDAL counts, in the order
            of the model's channels.
        shown (Sequence[int], optional): Which of ``bands`` are drawn as red, green and blue.
            Defaults to None, the first three; one alone is drawn gray.

    Raises:
        InputError: The numbers are no bands, or rasterio is not installed.
    """

    def __init__(self, bands: Sequence[int], shown: Sequence[int] | None = None) -> None:
        super().__init__()
        self.bands = list(bands)
        self.shown = list(shown or self.bands[: 3 if len(self.bands) >= 3 else 1])
        if not self.bands or not all(isinstance(b, int) and b >= 1 for b in self.bands):
            raise InputError(
                f"LoadMultibandImage.bands is {bands}; expected numbers from 1, such as "
                "[1, 2, 3, 4]"
            )
        if len(self.shown) not in (1, 3) or not set(self.shown) <= set(self.bands):
            raise InputError(
                f"LoadMultibandImage.shown is {shown}; expected three of the bands {self.bands}, "
                "those for red, green and blue, or one"
            )
        _rasterio()

    def transform(self, results: dict) -> dict:
        """Read the image.

        Raises:
            InputError: It cannot be read, or has too few bands; the message begins with the path.
        """
        path = results.get("img_path")
        if "img" in results:
            image = self._of_array(results["img"])
        else:
            try:
                image = self._read(path, results.pop("img_bytes", None))
            except InputError as error:
                raise InputError(f"{path} {UNREADABLE}{error}") from None
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return {"img_path": None} | results

    def _read(self, path: Any, content: bytes | None) -> np.ndarray:
        rasterio = _rasterio()
        errors = rasterio.errors
        if content is None:
            refuse_endless(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
            try:
                if content is None:
                    with rasterio.open(str(path)) as file:
                        return self._bands_of(file)
                with rasterio.MemoryFile(content) as memory, memory.open() as file:
                    return self._bands_of(file)
            except errors.RasterioError as error:
                raise InputError(str(error).partition("\n")[0]) from None

    def _bands_of(self, file: Any) -> np.ndarray:
        if max(self.bands) > file.count:
            raise InputError(
                f"the file has {file.count} band{'s' * (file.count > 1)}, and LoadMultibandImage "
                f"asks for band {max(self.bands)}: set bands, the model's in_channels and mean and "
                "std of its data_preprocessor to those that all files have, or leave this file out"
            )
        bands = file.read(self.bands, masked=True).astype(np.float32).filled(0)
        bands[~np.isfinite(bands)] = 0
        return np.ascontiguousarray(bands.transpose(1, 2, 0))

    def _of_array(self, pixels: Any) -> np.ndarray:
        pixels = np.asarray(pixels)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] != len(self.bands):
            raise InputError(
                f"an array has the shape {pixels.shape}; expected (height, width, "
                f"{len(self.bands)}), the bands {self.bands} of LoadMultibandImage in this order"
            )
        return np.ascontiguousarray(pixels, np.float32)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Make a picture of the bands that are shown.

        Args:
            image (np.ndarray): (H, W, C), what :meth:`transform` gave as ``img``.

        Returns:
            np.ndarray: (H, W, 3), BGR, uint8, each band stretched from its 2nd to its 98th
            percentile.
        """
        bands = [image[..., self.bands.index(band)] for band in reversed(self.shown)]
        drawn = [scale_to_bytes(band, *np.percentile(band, PERCENTILES)) for band in bands]
        return to_bgr(np.stack(drawn, -1))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bands={self.bands}, shown={self.shown})"


def _rasterio() -> Any:  # a module as an attribute would keep workers from being spawned
    return optional_package("rasterio", "LoadMultibandImage", "tiles")
