"""JPEG files of many encodings, whole and damaged in five ways."""

from __future__ import annotations

import io
import random

import cv2
import numpy as np
from PIL import Image

KINDS = ("half", "cut", "zeroed", "nul tail", "overwritten")
ENCODINGS = {
    "baseline": dict(quality=75),
    "4:4:4": dict(quality=95, subsampling=0),
    "4:2:2": dict(quality=90, subsampling=1),
    "optimized": dict(quality=60, optimize=True),
    "progressive": dict(quality=85, progressive=True),
    "restart rows": dict(quality=85, restart_marker_rows=1),
    "restart blocks": dict(quality=80, restart_marker_blocks=7),
    "gray": dict(quality=85),
    "gray, progressive": dict(quality=85, progressive=True),
    "CMYK": dict(quality=85),
}
END = b"\xff\xd9"


def photograph(width: int = 120, height: int = 88, seed: int = 0) -> Image.Image:
    """Smooth colors with some grain, as of a photograph."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 8, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = draw.normal(0, 6, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def encode(image: Image.Image, encoding: str, **further: object) -> bytes:
    """Encode a picture in one of ``ENCODINGS``."""
    mode = {"gray": "L", "CMYK": "CMYK"}.get(encoding.partition(",")[0], "RGB")
    stream = io.BytesIO()
    image.convert(mode).save(stream, "JPEG", **ENCODINGS[encoding], **further)
    return stream.getvalue()


def damage(content: bytes, kind: str, seed: int) -> bytes:
    """Damage the data behind the first header of a scan."""
    draw = random.Random(f"{kind} {seed}")
    first, last = _scan(content), len(content) - len(END)
    start = first + int((last - first) * draw.uniform(0.2, 0.6))
    length = max(64, int((last - first) * draw.uniform(0.03, 0.3)))
    if kind == "half":
        return content[:start] + END
    if kind == "cut":
        return content[:start] + content[start + length :]
    if kind == "zeroed":
        return content[:start] + bytes(length) + content[start + length :]
    if kind == "nul tail":
        return content[:start] + bytes(len(content) - start)
    return content[:start] + draw.randbytes(length) + content[start + length :]


def _scan(content: bytes) -> int:
    """Where the data of the first scan begin."""
    marker = content.index(b"\xff\xda")
    return marker + 2 + int.from_bytes(content[marker + 2 : marker + 4], "big")
