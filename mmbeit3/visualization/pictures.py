"""Writing pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmbeit3.utils.whole_files import write_whole

JPEG_QUALITY = 90


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3), BGR, uint8, as JPEG; folders are made.

    Args:
        path (Path): The file.
        picture (np.ndarray): Its pixels.

    Raises:
        WriteError: It cannot be written; nothing of it is left.
    """
    # not cv2.imwrite: it fails silently, and on Windows for names that are not ASCII
    content = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    write_whole(path, content.tobytes())
