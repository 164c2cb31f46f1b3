"""A page of small pictures, in one file that opens from disk."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 224  # pixels of the longer side of a picture
QUALITY = 80
STYLE = """
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; }
h2 { margin: 1.5em 0 .2em; }
p { margin: .2em 0 .6em; opacity: .7; }
div { display: flex; flex-wrap: wrap; gap: .8em; }
figure { margin: 0; width: 14em; }
img { width: 100%; height: 14em; object-fit: contain; background: #8882; }
figcaption { font-size: .8em; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Figure:
    """A picture of a page: its pixels as :func:`thumbnail` makes them, and what is below it."""

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a page: its title, what is said of it, and its pictures."""

    title: str
    note: str
    figures: Sequence[Figure]


def thumbnail(image: np.ndarray) -> bytes:
    """Make a small JPEG of an image (H, W, 3), BGR, uint8."""
    scale = min(1.0, SIDE / max(image.shape[:2]))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()


def picture_page(title: str, note: str, sections: Iterable[Section]) -> str:
    """Make an HTML page with the pictures in it.

    Args:
        title (str): Its title.
        note (str): A line below the title.
        sections (Iterable[Section]): Its parts, in order.

    Returns:
        str: The page; texts are escaped.
    """
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>",
    ]
    for section in sections:
        parts.append(
            f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.note)}</p><div>"
        )
        for figure in section.figures:
            data = base64.b64encode(figure.jpeg).decode()
            caption = html.escape(figure.caption)
            parts.append(
                f'<figure><img loading="lazy" alt="" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join([*parts, "</html>", ""])
