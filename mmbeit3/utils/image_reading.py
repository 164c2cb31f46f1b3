"""The one reader of image files: the same pixels for training, testing, inference and checks."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from mmbeit3.utils.errors import InputError
from mmbeit3.utils.image_damage import JPEG_FORMATS, DamageError, decode_jpeg, png_damage
from mmbeit3.utils.regular_files import refuse_endless

#: Files with these extensions count as images; reading one that cannot be decoded says why.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"),
    *(".jp2", ".heic", ".heif", ".avif"),
)
#: What OpenCV does for each value of the EXIF orientation tag (Exif 2.32, tag 0x0112).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
#: Orders of the channels of an array in memory: that of OpenCV and mmcv, and that of Pillow.
CHANNELS = ("bgr", "rgb")
UNDO = {**{value: value for value in TURNS}, 6: 8, 8: 6}  # the turn that takes back another
ORIENTATION = 0x0112
#: Environment variable with the number of pixels from which on an image is refused.
MAX_PIXELS = "MMBEIT3_MAX_PIXELS"
MAX_EXIF = 2**16  # bytes, of EXIF data at the end of a PNG
END_OF_JPEG = b"\xff\xd9"
PROGRAMS = ("EPS", "WMF")  # formats that Pillow hands to another program to be drawn
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
WHITE_IS_ZERO, SEPARATE_PLANES, UNSIGNED = 0, 2, 1  # values of three of them


def allow_pixels(number: str | None) -> None:
    """Set from how many pixels on an image is refused, in this process.

    Args:
        number (str, optional): The largest number that is read. Defaults to Pillow's limit,
            178,956,970.

    Raises:
        InputError: It is not a whole number of at least 1.
    """
    if not number:
        return
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"{MAX_PIXELS}={number}, expected a whole number of pixels, at least 1")
    # Pillow warns from this number on, and refuses twice as many.
    Image.MAX_IMAGE_PIXELS = (int(number) + 1) // 2
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


allow_pixels(os.environ.get(MAX_PIXELS))  # of label maps, too, and in workers that are not forked


def read_image(
    path: str | Path,
    backend_args: dict[str, Any] | None = None,
    turn: bool = True,
    on_damage: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Read an image file as :func:`decode_image` does.

    Args:
        path (str | Path): The file, on any backend of mmengine.
        backend_args (dict, optional): Arguments of that backend. Defaults to None.
        turn (bool): See there. Defaults to True.
        on_damage (Callable, optional): See there. Defaults to None.

    Returns:
        np.ndarray: Pixels (H, W, 3), BGR, uint8, C-contiguous.

    Raises:
        InputError: If the file cannot be read; the message is the reason, without the path.
    """
    refuse_endless(path)
    try:
        content = fileio.get(str(path), backend_args=backend_args)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    return decode_image(content, turn, on_damage)


def decode_image(
    content: bytes, turn: bool = True, on_damage: Callable[[str], None] | None = None
) -> np.ndarray:
    """Decode an image file of any format that Pillow or OpenCV knows to what a person sees.

    - The first frame counts where a file holds several.
    - The EXIF orientation is applied; damaged EXIF data count as none.
    - Transparent pixels lie on white.
    - Images with more than 8 bits a channel (16-bit, 32-bit, float) are stretched: the lowest
      value of the image becomes 0 and the highest 255, over all channels together. NaN becomes 0,
      and an infinity the end of the range on its side.

    Plain JPEG and PNG files of 8 bits are decoded by simplejpeg and OpenCV, for speed, and because
    simplejpeg tells of damage; their pixels are those of Pillow where all are built on the same
    libjpeg-turbo.

    Args:
        content (bytes): The whole file.
        turn (bool): Whether to apply the EXIF orientation. Defaults to True.
        on_damage (Callable, optional): Called with the reason where a JPEG or PNG file is damaged
            and pixels are made of it nevertheless. Defaults to None.

    Returns:
        np.ndarray: Pixels (H, W, 3), BGR, uint8, C-contiguous.

    Raises:
        InputError: If it cannot be decoded; the message is the reason.
    """
    if not content:
        raise InputError("the file is empty (0 bytes)")
    try:
        image = _open(content)
        if image is None:
            pixels = _decode_by_opencv(content)
            is_tiff = content[:4] in TIFF_STARTS
            if turn or not is_tiff:
                return pixels
            return _turn_back(pixels, _tiff_tags(io.BytesIO(content)))
        with image:
            tags = _tags_of(image)  # Pillow changes them
            pixels = _decode(image, content, on_damage or (lambda reason: None))
            return pixels if turn else _turn_back(pixels, tags or image)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(error)) from None
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    except Exception as error:  # a decoder given arbitrary bytes may raise anything
        raise InputError(f"cannot be decoded ({type(error).__name__}: {error})") from None


def picture_to_bgr(image: Image.Image) -> np.ndarray:
    """Turn an image of Pillow to what a person sees, by the rules of :func:`decode_image`.

    Of images with several channels of 16 bits, Pillow keeps 8.

    Args:
        image (Image.Image): The image; left as it is, but loaded.

    Returns:
        np.ndarray: Pixels (H, W, 3), BGR, uint8, C-contiguous.
    """
    tags = _tags_of(image)  # Pillow changes them
    image.load()
    return _pixels_of(image, tags)


def array_to_bgr(pixels: np.ndarray, channels: str = "bgr") -> np.ndarray:
    """Turn an array of pixels to BGR, by the rules of :func:`decode_image`.

    Args:
        pixels (np.ndarray): (H, W) or (H, W, C) with C from 1 to 4: gray, gray and alpha, color, or
            color and alpha; of any type of numbers.
        channels (str): The order of the colors, 'bgr' or 'rgb'. Defaults to 'bgr'.

    Returns:
        np.ndarray: Pixels (H, W, 3), BGR, uint8, C-contiguous; the same array if it is so already
        and may be written to.

    Raises:
        InputError: It has another shape, no pixels, or is not of numbers.
    """
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and 1 <= pixels.shape[2] <= 4)
    if not fits or not pixels.size or pixels.dtype.kind not in "buif":
        raise InputError(
            f"an array of shape {pixels.shape} and type {pixels.dtype}; expected (H, W, 3), also "
            "(H, W) and (H, W, 4), of numbers"
        )
    if channels == "rgb" and pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return np.require(to_bgr(pixels), requirements=("C", "W"))  # torch wants it writable


def _too_large(error: Image.DecompressionBombError) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", str(error))]
    if len(numbers) != 2:  # not the text that Pillow has today
        return f"too many pixels ({error}): set {MAX_PIXELS}, or cut the image into tiles"
    found, limit = numbers
    return (
        f"too many pixels: {found:,}, expected at most {limit:,}. If you trust the file, set the "
        f"environment variable {MAX_PIXELS}={found}, or cut the image into tiles"
    )


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image, 1 to 8; 1 if it has none or damaged data.

    Args:
        image (Image.Image): The image. Of a PNG that is not loaded, EXIF data behind the pixels
            are not seen.
    """
    try:
        if isinstance(image, TiffImageFile):
            value = image.tag_v2.get(ORIENTATION)
        else:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            value = exif.get(ORIENTATION)
    except Exception:  # Pillow parses EXIF lazily and lets errors of many types through
        return 1
    return value if value in TURNS else 1


def to_bgr(pixels: np.ndarray) -> np.ndarray:
    """Make an array of pixels of any type one that can be drawn on.

    Args:
        pixels (np.ndarray): (H, W) or (H, W, C): gray, gray and alpha, BGR, or BGR and alpha.

    Returns:
        np.ndarray: (H, W, 3), BGR, uint8; the same array if it is so already.

    Raises:
        InputError: If it has another number of channels.
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = pixels.shape[2]
    if channels > 4:
        raise InputError(f"the image has {channels} channels, expected 1 to 4")
    if channels in (1, 3):
        color = stretch(pixels)
    else:
        full = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
        alpha = np.clip(pixels[..., -1:] / full, 0, 1)
        color = stretch(pixels[..., :-1], alpha > 0)
        color = np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return cv2.cvtColor(color, cv2.COLOR_GRAY2BGR) if color.shape[2] == 1 else color


def stretch(values: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """Map values of any type and range to uint8, the lowest to 0 and the highest to 255.

    Args:
        values (np.ndarray): (H, W, C). If uint8 they are returned as they are; if all are the same,
            they are only clipped.
        visible (np.ndarray, optional): (H, W, 1), bool, the pixels whose values count. Defaults to
            None, all.
    """
    if values.dtype == np.uint8:
        return values
    counts = np.isfinite(values)
    if visible is not None:
        counts &= visible
    if not counts.any():
        return np.zeros(values.shape, np.uint8)
    low, high = (float(end) for end in (values[counts].min(), values[counts].max()))
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # looked up: quick, and small
        return scale_to_bytes(np.arange(2**16, dtype=np.float64), low, high)[values]
    return scale_to_bytes(values.astype(np.float64), low, high)


def scale_to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map ``low`` to 0 and ``high`` to 255; if they are equal, values are only clipped."""
    finite = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if low < high:
        finite = (finite - low) * (255 / (high - low))
    scaled = np.rint(np.clip(finite, 0, 255)).astype(np.uint8)
    scaled[np.isnan(values)] = 0
    return scaled


def _open(content: bytes) -> ImageFile | None:
    """Open an image without decoding it; None if Pillow does not know its format."""
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if content[4:8] != b"ftyp" or content[8:12] not in HEIF_BRANDS:
            return None
        _register_heif()
        image = Image.open(io.BytesIO(content))
    if image.format in PROGRAMS:
        raise InputError(f"not an image of pixels, but a drawing ({image.format})")
    return image


def _register_heif() -> None:
    """Teach Pillow HEIF, for which it needs a plug-in."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise InputError("HEIF images need one more package: pip install pillow-heif") from None
    register_heif_opener()


def _decode(image: ImageFile, content: bytes, on_damage: Callable[[str], None]) -> np.ndarray:
    """Decode an open image to BGR, turned by its EXIF orientation."""
    try:
        if image.format in JPEG_FORMATS:
            # Pillow turns CMYK to RGB; here it is only looked at.
            pixels = decode_jpeg(content, image.mode, factor=8 if image.mode == "CMYK" else 1)
            if pixels is not None and image.mode in ("L", "RGB"):
                return _turn(pixels, image)
        damage = None
    except DamageError as error:
        damage = str(error)
    if _is_plain(image, content):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is not None:
            if damage:
                on_damage(damage)
            return _turn(pixels, image)
    is_wide = _has_wide_colors(image)
    tags = _tags_of(image)
    image.load()  # fails where OpenCV would not see that a file was cut off
    if image.format == "PNG":
        damage = png_damage(content)
    if damage:
        on_damage(damage)
    if is_wide or image.mode == "LAB":  # Pillow drops the lower bits, and knows no LAB to RGB
        pixels = _decode_by_opencv(content)
        return pixels if image.format == "TIFF" else _turn(pixels, image)
    return _pixels_of(image, tags)


def _pixels_of(image: Image.Image, tags: dict[int, Any]) -> np.ndarray:
    """Turn a loaded image to BGR, with the tags of its TIFF file."""
    if image.mode[0] in "IF":
        return _turn(_decode_gray(image, tags), image)
    color = image
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        color = Image.alpha_composite(white, image.convert("RGBA"))
    if color.mode != "RGB":
        color = color.convert("RGB")
    return _turn(cv2.cvtColor(np.asarray(color), cv2.COLOR_RGB2BGR), image)


def _is_plain(image: ImageFile, content: bytes) -> bool:
    """Whether an image that is not loaded is one of 8 bits that OpenCV reads as Pillow does."""
    if image.format in ("JPEG", "MPO"):
        # Of what was cut off, OpenCV makes gray where Pillow says so.
        return image.mode in ("L", "RGB") and content[-64:].rstrip(b"\0").endswith(END_OF_JPEG)
    if image.format != "PNG" or image.tile[0][3] not in ("L", "RGB"):
        return False
    # EXIF data behind the pixels are found by loading it only.
    return "transparency" not in image.info and b"eXIf" not in content[-MAX_EXIF:]


def _turn(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turn pixels as the image asks for.

    It must be loaded if it is not plain: in a PNG, EXIF data may stand behind the pixels, and
    Pillow turns a TIFF while it loads it.
    """
    turn = TURNS.get(exif_orientation(image))
    return pixels if turn is None else turn(pixels)


def _turn_back(pixels: np.ndarray, origin: Image.Image | Mapping[int, Any]) -> np.ndarray:
    """Turn pixels to how they are stored in a loaded image, or in a TIFF with these tags."""
    if isinstance(origin, Image.Image):
        orientation = exif_orientation(origin)
    else:
        orientation = origin.get(ORIENTATION, 1)
    turn = TURNS.get(UNDO.get(orientation, 1))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _tags_of(image: Image.Image) -> dict[int, Any]:
    """The tags of an open TIFF; of other formats none."""
    return dict(image.tag_v2) if isinstance(image, TiffImageFile) else {}


def _has_wide_colors(image: ImageFile) -> bool:
    """Whether an image that is not loaded has several channels of more than 8 bits."""
    if image.mode[0] in "IF" or not image.tile:
        return False
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8
    arguments = image.tile[0][3]
    if image.format == "PPM" and isinstance(arguments, tuple):
        return isinstance(arguments[-1], int) and arguments[-1] > 255  # the largest value
    return image.format == "PNG" and ";16" in str(arguments)


def _decode_gray(image: Image.Image, tags: dict[int, Any]) -> np.ndarray:
    """Stretch a loaded gray image of more than 8 bits, with the tags of its TIFF file."""
    values = np.asarray(image)
    if values.dtype == np.int32 and tags.get(BITS_PER_SAMPLE) == (32,):
        # Pillow has no unsigned type of 32 bits.
        values = values.view(np.uint32) if tags.get(SAMPLE_FORMAT) == (UNSIGNED,) else values
    transparent = image.info.get("transparency")  # of a PNG: the value that is not seen
    if isinstance(transparent, int):
        gray = stretch(values[..., None], values[..., None] != transparent)
        gray[values == transparent] = 255
    else:
        gray = stretch(values[..., None])
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)


def _decode_by_opencv(content: bytes) -> np.ndarray:
    """Decode what Pillow does not know, or only in part, to BGR; a TIFF is turned, nothing else."""
    bits = 0
    if content[:4] in TIFF_STARTS:
        tags = _tiff_tags(io.BytesIO(content))
        bits = max(tags.get(BITS_PER_SAMPLE, (1,)))
        if bits > 8 and tags.get(PLANAR) == SEPARATE_PLANES:
            raise InputError(
                f"a TIFF of {bits} bits with a plane for each channel; save it with interleaved "
                "channels (PlanarConfiguration=1)"
            )
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"cannot be decoded ({error.err})") from None
    if pixels is None or (bits > 8 and pixels.dtype == np.uint8):
        raise InputError("not an image in a format that Pillow or OpenCV can read")
    return to_bgr(pixels)


def tiff_orientation(path: Path) -> int:
    """Return the orientation of the first image of a TIFF file, whose pixels are not read.

    Args:
        path (Path): The file.
    """
    with path.open("rb") as stream:
        try:
            return _tiff_tags(stream).get(ORIENTATION, 1)
        except Exception:  # of damaged tags many types
            return 1


def _tiff_tags(stream: BinaryIO) -> ImageFileDirectory_v2:
    """Read the tags of the first image of a TIFF file."""
    head = stream.read(16)
    is_big = b"+" in head[2:4]
    tags = ImageFileDirectory_v2(head[: 16 if is_big else 8])
    stream.seek(tags.next)
    tags.load(stream)
    return tags
