"""Pictures of detections: translucent masks, boxes, and labels that can be read."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import ImageFont

Colour = tuple[int, int, int]

#: Sides of a picture in pixels: smaller images are enlarged, larger ones reduced, to be looked at.
MIN_SHORT_SIDE = 480
MAX_LONG_SIDE = 2048
MASK_OPACITY = 0.45


def class_palette(num_classes: int) -> list[Colour]:
    """Give each class a colour; classes next to each other get hues far apart.

    Args:
        num_classes (int): How many colours.

    Returns:
        list[tuple]: (blue, green, red) each, 0 to 255.
    """
    golden = 0.618034  # steps of the golden ratio spread hues evenly for any number of classes
    return [
        _bgr((0.56 + index * golden) % 1, (0.85, 0.6)[index // 8 % 2], (1.0, 0.8)[index // 16 % 2])
        for index in range(num_classes)
    ]


def display_scale(height: int, width: int) -> float:
    """Return the factor that makes an image of this size comfortable to look at.

    It is 1 between ``MIN_SHORT_SIDE`` and ``MAX_LONG_SIDE``, and never enlarges beyond the one to
    satisfy the other.
    """
    return sorted((1.0, MIN_SHORT_SIDE / min(height, width), MAX_LONG_SIDE / max(height, width)))[1]


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    masks: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Colour],
) -> np.ndarray:
    """Draw detections on an image.

    The picture is resized by :func:`display_scale`. An instance has the colour of its class; each
    further instance of the same class gets another shade of it.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2 in pixels of ``image``.
        labels (np.ndarray): (N,), indices of classes.
        scores (np.ndarray): (N,), in [0, 1].
        masks (np.ndarray, optional): (N, H, W), bool.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR colour of each class.

    Returns:
        np.ndarray: The picture, BGR, uint8.
    """
    scale = display_scale(*image.shape[:2])
    picture = _resize(image, scale)
    order = np.argsort(-scores, kind="stable")  # the surest are drawn last and labelled first
    labels = labels[order]
    colours = _instance_colours(labels, palette)
    boxes = np.rint(boxes[order] * scale).astype(int)
    thickness = max(1, round(min(picture.shape[:2]) / 500))
    if masks is not None:
        _draw_masks(picture, [masks[index] for index in order], scale, colours, thickness)
    for box, colour in zip(boxes[::-1], colours[::-1], strict=True):
        cv2.rectangle(picture, box[:2].tolist(), box[2:].tolist(), colour, thickness)
    texts = [f"{classes[i]} {s:.2f}" for i, s in zip(labels, scores[order], strict=True)]
    _draw_labels(picture, boxes, texts, colours)
    return picture


def _bgr(hue: float, saturation: float, value: float) -> Colour:
    """Convert a colour from HSV, each in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image; always returns a new array."""
    if scale == 1:
        return image.copy()
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def _instance_colours(labels: np.ndarray, palette: Sequence[Colour]) -> list[Colour]:
    """Vary the colour of each class over its instances: (N,) labels to N colours."""
    shades = ((0, 1, 1), (0.05, 0.75, 1), (-0.05, 1, 0.8), (0.025, 0.55, 1), (-0.025, 1, 0.65))
    seen: dict[int, int] = {}
    colours = []
    for label in labels.tolist():
        turn, saturate, darken = shades[seen.setdefault(label, 0) % len(shades)]
        seen[label] += 1
        blue, green, red = palette[label]
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        colours.append(_bgr((hue + turn) % 1, saturation * saturate, value * darken))
    return colours


def _outlines(mask: np.ndarray, scale: float) -> tuple[Sequence[np.ndarray], np.ndarray | None]:
    """Trace a mask (H, W) as it is displayed: its outlines, holes too, and their hierarchy."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return (), None
    crop = mask[top : top + height, left : left + width].astype(np.uint8)
    x, y = round(left * scale), round(top * scale)
    if scale != 1:
        size = max(1, round((left + width) * scale) - x), max(1, round((top + height) * scale) - y)
        crop = (cv2.resize(crop * 255, size) > 127).astype(np.uint8)
    return cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))


def _draw_masks(
    picture: np.ndarray, masks: list[np.ndarray], scale: float, colours: list[Colour], width: int
) -> None:
    """Tint the masks and draw their outlines, first instance on top."""
    shapes = [
        (*_outlines(mask, scale), colour) for mask, colour in zip(masks, colours, strict=True)
    ]
    layer = picture.copy()
    for outlines, hierarchy, colour in reversed(shapes):
        cv2.drawContours(layer, outlines, -1, colour, cv2.FILLED, hierarchy=hierarchy)
    cv2.addWeighted(picture, 1 - MASK_OPACITY, layer, MASK_OPACITY, 0, dst=picture)
    for outlines, _, colour in reversed(shapes):
        cv2.drawContours(picture, outlines, -1, colour, width, cv2.LINE_AA)


def _draw_labels(
    picture: np.ndarray, boxes: np.ndarray, texts: list[str], colours: list[Colour]
) -> None:
    """Put each text near its box where it hides no earlier text; leave it out if it must."""
    size = max(12, round(min(picture.shape[:2]) / 40))
    taken = np.zeros((0, 4), int)
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        chip = _chip(text, size, colour)
        place = _free_place(box, chip.shape[:2], picture.shape[:2], taken)
        if place is not None:
            x, y = place
            height, width = chip.shape[:2]
            picture[y : y + height, x : x + width] = chip
            taken = np.vstack((taken, (x, y, x + width, y + height)))


def _free_place(
    box: np.ndarray, chip: tuple[int, int], picture: tuple[int, int], taken: np.ndarray
) -> tuple[int, int] | None:
    """Find (x, y) for a label of (height, width): above, inside or below the box."""
    x1, y1, x2, y2 = box.tolist()
    height, width = chip
    if width > picture[1]:
        return None
    above, below = [(x1, y1 - height), (x2 - width, y1 - height)], [(x1, y2), (x2 - width, y2)]
    roomy = y2 - y1 >= 2 * height  # otherwise a label inside would cover the object
    inside = [(x1, y1), (x1, y2 - height)] if roomy else []
    for x, y in above + inside + below:
        x = min(max(x, 0), picture[1] - width)
        overlaps = (
            (taken[:, 0] < x + width)
            & (x < taken[:, 2])
            & (taken[:, 1] < y + height)
            & (y < taken[:, 3])
        )
        if 0 <= y <= picture[0] - height and not overlaps.any():
            return x, y
    return None


def _chip(text: str, size: int, colour: Colour) -> np.ndarray:
    """Write a text of ``size`` pixels on a ground of its colour: (h, w, 3), BGR, uint8."""
    blue, green, red = colour
    ink = 0 if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else 255
    ground = np.array(colour, np.float32)
    return (ground + _opacity(text, size) * (ink - ground)).astype(np.uint8)


@lru_cache(maxsize=4096)
def _opacity(text: str, size: int) -> np.ndarray:
    """Render a text with a margin: (h, w, 1), float32, 1 where there is ink."""
    font = _font(size)
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    pad = max(2, size // 5)
    glyphs, (x, y) = font.getmask2(text, mode="L")
    width, height = glyphs.size
    x, y = pad + x - left, y + 1
    opacity = np.zeros((ascent + descent + 2, right - left + 2 * pad, 1), np.float32)
    opacity[y : y + height, x : x + width, 0] = np.array(glyphs).reshape(height, width) / 255
    return opacity


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
