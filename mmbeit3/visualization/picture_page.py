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
.figures { display: flex; flex-wrap: wrap; gap: .8em; }
figure { margin: 0; width: 14em; display: flex; flex-wrap: wrap; align-content: start; }
img { width: 14em; height: 14em; object-fit: contain; background: #8882; }
img + img { border-left: 3px solid Canvas; box-sizing: border-box; }
figcaption { width: 100%; font-size: .8em; overflow-wrap: anywhere; white-space: pre-line; }
b { display: block; font-size: 1.2em; }
"""


@dataclass(frozen=True)
class Figure:
    """A picture of a page, or several side by side, and what is below.

    Attributes:
        jpegs (Sequence[bytes]): Their pixels as :func:`thumbnail` makes them.
        caption (str): Lines in small letters.
        title (str): What stands above these. Defaults to "".
    """

    jpegs: Sequence[bytes]
    caption: str
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page: its title, what is said of it, and its pictures; no title, no note."""

    title: str
    note: str
    figures: Sequence[Figure]


def thumbnail(image: np.ndarray, side: int = SIDE) -> bytes:
    """Make a small JPEG of an image (H, W, 3), BGR, uint8, that is no longer than ``side``."""
    scale = min(1.0, side / max(image.shape[:2]))
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
        if section.title:
            title, note = html.escape(section.title), html.escape(section.note)
            parts.append(f"<h2>{title}</h2><p>{note}</p>")
        parts += ['<div class="figures">', *map(_figure, section.figures), "</div>"]
    return "\n".join([*parts, "</html>", ""])


def _figure(figure: Figure) -> str:
    encoded = [base64.b64encode(jpeg).decode() for jpeg in figure.jpegs]
    images = "".join(
        f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{data}">' for data in encoded
    )
    width = f' style="width: {14 * len(encoded)}em"' if len(encoded) > 1 else ""
    title = f"<b>{html.escape(figure.title)}</b>" if figure.title else ""
    caption = f"<figcaption>{title}{html.escape(figure.caption)}</figcaption>"
    return f"<figure{width}>{images}{caption}</figure>"
