"""Pictures of what a model found: translucent masks or class maps, boxes, and readable names."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from mmbeit3.visualization.text_labels import Chips, Color, Places

#: Sides of a picture in pixels: smaller images are enlarged, larger ones reduced, to be looked at.
MIN_SHORT_SIDE = 480
MAX_LONG_SIDE = 2048
MASK_OPACITY = 0.45
REGION_OPACITY = 0.5


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
    scores: np.ndarray | None,
    masks: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Color],
) -> np.ndarray:
    """Draw detections, or annotations, on an image.

    The picture is resized by :func:`display_scale`. An instance has the color of its class; each
    further instance of the same class gets another shade of it.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2 in pixels of ``image``.
        labels (np.ndarray): (N,), indices of classes.
        scores (np.ndarray, optional): (N,), in [0, 1]; annotations have none.
        masks (np.ndarray, optional): (N, H, W), bool.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR color of each class.

    Returns:
        np.ndarray: The picture, BGR, uint8.
    """
    scale = display_scale(*image.shape[:2])
    picture = _resize(image, scale)
    order: np.ndarray = np.arange(len(labels))
    if scores is not None:
        order = np.argsort(-scores, kind="stable")  # the surest are drawn last and labeled first
    labels = labels[order]
    colors = _instance_colors(labels, palette)
    boxes = np.rint(boxes[order] * scale).astype(int)
    thickness = max(1, round(min(picture.shape[:2]) / 500))
    if masks is not None:
        _draw_masks(picture, [masks[index] for index in order], scale, colors, thickness)
    for box, color in zip(boxes[::-1], colors[::-1], strict=True):
        cv2.rectangle(picture, box[:2].tolist(), box[2:].tolist(), color, thickness)
    texts = [classes[index] for index in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores[order], strict=True)]
    chips = Chips(picture)
    for text, box, color in zip(texts, boxes.tolist(), colors, strict=True):
        chips.put(text, color, partial(_around, box))
    return picture


def draw_class_map(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], palette: Sequence[Color]
) -> np.ndarray:
    """Draw the class of every pixel on an image: its color, and its name on its largest region.

    Edges of regions have the full colors. Larger regions are named first; a name that would hide
    another one, or its own region altogether, is left out. The picture is resized by
    :func:`display_scale`.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        labels (np.ndarray): (H, W), uint8, indices of classes. Where there is none, as with the 255
            of pixels that do not count, the image stays as it is.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR color of each class.

    Returns:
        np.ndarray: The picture, BGR, uint8.
    """
    picture = _resize(image, display_scale(*image.shape[:2]))
    height, width = picture.shape[:2]
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    layer = cv2.LUT(cv2.merge([labels] * 3), table)
    np.copyto(layer, picture, where=(labels >= len(palette))[..., None])
    cv2.addWeighted(picture, 1 - REGION_OPACITY, layer, REGION_OPACITY, 0, dst=picture)
    around = np.ones((3, 3), np.uint8)
    edges = cv2.dilate(labels, around) != cv2.erode(labels, around)
    picture[edges] = layer[edges]
    chips = Chips(picture)
    for region in _regions(labels, len(palette)):
        chips.put(classes[region.label], palette[region.label], region.places)
    return picture


@dataclass(frozen=True)
class _Region:
    """The largest connected region of a class: its area, and its middle."""

    label: int
    area: int
    x: int
    y: int

    def places(self, height: int, width: int) -> Places:
        """Return the one place for a name of (height, width), if it leaves some of the region."""
        roomy = self.area > height * width
        return [(self.x - width // 2, self.y - height // 2)] if roomy else []


def _regions(labels: np.ndarray, num_classes: int) -> list[_Region]:
    """Find the largest region of each class in (H, W) labels, larger ones first."""
    step = max(1, max(labels.shape) // 512)  # every pixel would find the same places, slowly
    coarse = np.pad(labels[::step, ::step].astype(np.int16), 1, constant_values=-1)
    regions = []
    found = np.unique(coarse[1:-1, 1:-1])
    for label in found[found < num_classes].tolist():
        mask = (coarse == label).view(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        x, y = _middle(parts == largest)
        area = int(stats[largest, cv2.CC_STAT_AREA]) * step**2
        regions.append(_Region(label, area, (x - 1) * step, (y - 1) * step))
    return sorted(regions, key=lambda region: -region.area)


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """Find (x, y) far from the edge of a mask (H, W), and of such points the most central."""
    depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero(depth >= 0.9 * depth.max())
    centre_y, centre_x = (places.mean() for places in np.nonzero(mask))
    best = np.argmin((rows - centre_y) ** 2 + (columns - centre_x) ** 2)
    return int(columns[best]), int(rows[best])


def _bgr(hue: float, saturation: float, value: float) -> Color:
    """Convert a color from HSV, each in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image; always returns a new array."""
    if scale == 1:
        return image.copy()
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def _instance_colors(labels: np.ndarray, palette: Sequence[Color]) -> list[Color]:
    """Vary the color of each class over its instances: (N,) labels to N colors."""
    shades = ((0, 1, 1), (0.05, 0.75, 1), (-0.05, 1, 0.8), (0.025, 0.55, 1), (-0.025, 1, 0.65))
    seen: dict[int, int] = {}
    colors = []
    for label in labels.tolist():
        turn, saturate, darken = shades[seen.setdefault(label, 0) % len(shades)]
        seen[label] += 1
        blue, green, red = palette[label]
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        colors.append(_bgr((hue + turn) % 1, saturation * saturate, value * darken))
    return colors


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
    picture: np.ndarray, masks: list[np.ndarray], scale: float, colors: list[Color], width: int
) -> None:
    """Tint the masks and draw their outlines, first instance on top."""
    shapes = [(*_outlines(mask, scale), color) for mask, color in zip(masks, colors, strict=True)]
    layer = picture.copy()
    for outlines, hierarchy, color in reversed(shapes):
        cv2.drawContours(layer, outlines, -1, color, cv2.FILLED, hierarchy=hierarchy)
    cv2.addWeighted(picture, 1 - MASK_OPACITY, layer, MASK_OPACITY, 0, dst=picture)
    for outlines, _, color in reversed(shapes):
        cv2.drawContours(picture, outlines, -1, color, width, cv2.LINE_AA)


def _around(box: Sequence[int], height: int, width: int) -> Places:
    """List places for a label of (height, width): above, inside or below the box."""
    x1, y1, x2, y2 = box
    above, below = [(x1, y1 - height), (x2 - width, y1 - height)], [(x1, y2), (x2 - width, y2)]
    roomy = y2 - y1 >= 2 * height  # otherwise a label inside would cover the object
    return above + ([(x1, y1), (x1, y2 - height)] if roomy else []) + below
