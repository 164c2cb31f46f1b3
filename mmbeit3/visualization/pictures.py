"""Writing pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole

JPEG_QUALITY = 90
SUFFIXES = (".jpg", ".jpeg", ".png")


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3), BGR, uint8; folders are made.

    Args:
        path (Path): The file; JPEG, or PNG if its suffix is ``.png``.
        picture (np.ndarray): Its pixels.

    Raises:
        InputError: The suffix is that of another format.
        WriteError: It cannot be written; nothing of it is left.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"picture {path} has the suffix {suffix!r}; expected .jpg or .png")
    # not cv2.imwrite: it fails silently, and on Windows for names that are not ASCII
    content = cv2.imencode(suffix, picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    write_whole(path, content.tobytes())
