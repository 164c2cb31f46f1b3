"""Damage in JPEG and PNG files that their usual decoders pass over in silence.

Where data are missing or make no sense, libjpeg fills the image with gray and warns; OpenCV and
Pillow keep the warning to themselves. simplejpeg, on the same libjpeg-turbo, raises it. Of a PNG,
Pillow leaves out the checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

try:
    import simplejpeg
except ImportError:  # an environment from before it was required: JPEG files are read without it
    simplejpeg = None

#: How messages of libjpeg begin (jerror.h) that tell of damage. Others are about unusual headers.
#: After the first three it goes on, after the others it ends; of what it made until then, OpenCV
#: gives pixels in some cases.
MESSAGES = (
    *("Corrupt JPEG data", "Premature end of JPEG", "Inconsistent progression"),
    *("Unsupported marker type", "Unsupported JPEG process", "Invalid JPEG file structure"),
    "Bogus",
)
JPEG_FORMATS = ("JPEG", "MPO")
PNG_START = b"\x89PNG\r\n\x1a\n"


class DamageError(Exception):
    """An image file is damaged, though a decoder would make some pixels of it."""


def finds_jpeg_damage() -> bool:
    """Whether simplejpeg is there."""
    return simplejpeg is not None


def decode_jpeg(content: bytes, mode: str = "RGB", factor: int = 1) -> np.ndarray | None:
    """Decode a JPEG file, unless it is damaged.

    The pixels are those of OpenCV and Pillow where these are built on libjpeg-turbo, too.

    Args:
        content (bytes): The whole file.
        mode (str): Its mode, as Pillow says it. Defaults to 'RGB'.
        factor (int): By how much to reduce the sides: 1, 2, 4 or 8. Defaults to 1.

    Returns:
        np.ndarray | None: (H, W, 3), BGR, uint8; of CMYK, (H, W, 4). None if nothing is known: the
        file is of a kind that simplejpeg does not decode or finds unusual, or simplejpeg is not
        installed.

    Raises:
        DamageError: Data are missing or make no sense; the message is libjpeg's.
    """
    if simplejpeg is None:
        return None
    colors = "CMYK" if mode == "CMYK" else "BGR"
    try:
        return simplejpeg.decode_jpeg(content, colors, min_factor=factor)
    except ValueError as error:
        if str(error).startswith(MESSAGES):
            raise DamageError(str(error)) from None
    return None


def png_damage(content: bytes) -> str | None:
    """Compare the checksums of the chunks that make a PNG image, up to its end.

    Args:
        content (bytes): The whole file.

    Returns:
        str | None: What is wrong, if anything.
    """
    for kind, start, end in _chunks(content):
        is_needed = kind[:1].isupper()
        if is_needed and zlib.crc32(content[start:end]) != int.from_bytes(
            content[end : end + 4], "big"
        ):
            return f"the checksum of a chunk ({kind.decode(errors='backslashreplace')}) is wrong"
        if kind == b"IEND":
            return None
    return "the end of the PNG file is missing"


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk, and where kind and data begin and end."""
    place = len(PNG_START)
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], place + 4, end
        place = end + 4
