"""Images from any folder: finding the files, and reading every format and mode as BGR pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mmbeit3.utils import InputError

#: Files with these extensions count as images; reading one that Pillow cannot decode says why.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"),
    *(".jp2", ".heic", ".heif", ".avif"),
)

#: What each value of the EXIF orientation tag asks for (Exif 2.32, tag 0x0112).
EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112


def find_images(folder: Path, exclude: Iterable[Path] = ()) -> list[Path]:
    """List the images below a folder, sorted by their path.

    Hidden files and folders are left out. Links to folders are followed, each folder once.

    Args:
        folder (Path): The folder, or one image file.
        exclude (Iterable): Folders to stay out of. Defaults to none.

    Returns:
        list[Path]: The paths, each beginning with ``folder``; never empty.

    Raises:
        InputError: If there is no such folder or no image in it.
    """
    known = " ".join(extension.lstrip(".") for extension in EXTENSIONS)
    if folder.is_file():
        if folder.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{folder} is not an image: its extension is none of {known}")
        return [folder]
    if not folder.is_dir():
        raise InputError(f"no such folder or image: {folder}")
    images = [path for path in _files(folder, exclude) if path.suffix.lower() in EXTENSIONS]
    if not images:
        raise InputError(f"no images in {folder} or below: looked for files ending in {known}")
    return sorted(images)


def _files(folder: Path, exclude: Iterable[Path]) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden."""
    seen = {os.path.realpath(path) for path in exclude}
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))


def read_image(path: Path) -> np.ndarray:
    """Read one image file of any format that Pillow knows.

    The first frame counts where a file holds several. EXIF orientation is applied. Transparent
    pixels lie on white. Greys of more than 8 bits are stretched so that the darkest pixel of the
    image becomes 0 and the brightest 255.

    Args:
        path (Path): The file.

    Returns:
        np.ndarray: Pixels (H, W, 3), BGR, uint8, C-contiguous.

    Raises:
        InputError: If the file cannot be read; the message is the reason, without the path.
    """
    if path.suffix.lower() in (".heic", ".heif"):
        _register_heif()
    try:
        if path.stat().st_size == 0:
            raise InputError("the file is empty (0 bytes)")
        with Image.open(path) as image:
            image.load()
            return _to_bgr(_upright(image))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("not an image in a format that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"too many pixels, cut the image into tiles ({error})") from None
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    except Exception as error:  # a decoder given arbitrary bytes may raise anything
        raise InputError(f"cannot be decoded ({type(error).__name__}: {error})") from None


def _register_heif() -> None:
    """Teach Pillow HEIF, for which it needs a plug-in."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise InputError("HEIF images need one more package: pip install pillow-heif") from None
    register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation says; damaged EXIF data counts as none."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # Pillow parses EXIF lazily and lets errors of many types through
        return image
    if orientation not in EXIF_TRANSPOSE:
        return image
    return image.transpose(EXIF_TRANSPOSE[orientation])


def _to_bgr(image: Image.Image) -> np.ndarray:
    """Convert a loaded image of any mode to (H, W, 3) BGR uint8."""
    if image.mode[0] in "IF":
        return np.repeat(_stretch(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)


def _stretch(grey: np.ndarray) -> np.ndarray:
    """Map greys (H, W) of any range to uint8, lowest to 0 and highest to 255."""
    grey = np.nan_to_num(grey.astype(np.float64), posinf=0, neginf=0)
    low, high = grey.min(), grey.max()
    if low == high:  # nothing to stretch
        return np.clip(grey, 0, 255).astype(np.uint8)
    return np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)
