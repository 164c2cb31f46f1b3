"""Pictures of what a model found: translucent masks or class maps, boxes, and readable names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from mmbeit3.visualization.duplicates import find_duplicates
from mmbeit3.visualization.legend import add_legend
from mmbeit3.visualization.text_labels import (
    Chips,
    Color,
    Places,
    display_names,
    label_text,
    line_width,
)

#: Sides of a picture in pixels: smaller images are enlarged, larger ones reduced, to be looked at.
MIN_SHORT_SIDE = 480
MAX_LONG_SIDE = 2048
MASK_OPACITY = 0.45
REGION_OPACITY = 0.5
#: How much of white (255) or black (0) is in the masks of the first, second, ... object of a class.
TONES = ((255, 0.0), (255, 0.4), (0, 0.35), (255, 0.65), (0, 0.55))
EDGE = 0.3  # of a color, for the edges of its lines


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
    *,
    hide_duplicates: bool = False,
) -> np.ndarray:
    """Draw detections, or annotations, on an image.

    The picture is resized by :func:`display_scale`. Boxes, outlines and labels have the colors of
    their classes; masks of one class have lighter and darker tones of it, to be told apart. A label
    that would hide another one, or a whole object, is left out, of detections the surest last and
    of annotations the largest.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        boxes (np.ndarray): (N, 4), x1 y1 x2 y2 in pixels of ``image``.
        labels (np.ndarray): (N,), indices of classes.
        scores (np.ndarray, optional): (N,), in [0, 1]; annotations have none.
        masks (np.ndarray, optional): (N, H, W), bool.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR color of each class.
        hide_duplicates (bool): Whether to leave out detections that overlap a surer one, see
            :func:`mmbeit3.visualization.duplicates.find_duplicates`. Defaults to False.

    Returns:
        np.ndarray: The picture, BGR, uint8.
    """
    scale = display_scale(*image.shape[:2])
    picture = resized(image, scale)
    if scores is None:
        order = np.argsort(_areas(boxes), kind="stable")
    else:
        order = np.argsort(-scores, kind="stable")
        if hide_duplicates:
            order = order[~find_duplicates(boxes, labels, scores, masks)[order]]
    order = order[np.isfinite(boxes[order]).all(1)]
    labels = labels[order]
    colors = [palette[label] for label in labels]
    side = max(picture.shape[:2])
    # Of diverged weights they may lie where OpenCV has no numbers for.
    boxes = np.rint((boxes[order] * scale).clip(-side, 2 * side)).astype(int)
    widths = _line_widths(picture, boxes)
    if masks is not None:
        shown = (masks[index] for index in order)  # of a large image each is made when asked for
        _draw_masks(picture, shown, scale, colors, _tones(labels, palette), widths)
    for box, color, width in zip(boxes[::-1], colors[::-1], widths[::-1], strict=True):
        corners = box[:2].tolist(), box[2:].tolist()
        if width > 2:
            cv2.rectangle(picture, *corners, _edge(color), width + 2)
        cv2.rectangle(picture, *corners, color, width)
    names = display_names(classes)
    texts = [label_text(names[label]) for label in labels]
    if scores is not None:
        pairs = zip(labels, scores[order], strict=True)
        texts = [label_text(names[label], float(score)) for label, score in pairs]
    chips = Chips(picture, boxes)
    entries = list(zip(texts, boxes.tolist(), colors, strict=True))
    for text, box, color in entries if scores is not None else reversed(entries):
        chips.put(text, color, partial(_around, box))
    return picture


def draw_class_map(
    image: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Color],
    *,
    legend: bool = True,
) -> np.ndarray:
    """Draw the class of every pixel on an image: its color, and its name on its largest region.

    Edges of regions have the full colors. Larger regions are named first; a name that would hide
    another one, or its own region altogether, is left out: the legend below the image has them all.
    The image is resized by :func:`display_scale`.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        labels (np.ndarray): (H, W), uint8, indices of classes. Where there is none, as with the 255
            of pixels that do not count, the image stays as it is.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[tuple]): BGR color of each class.
        legend (bool): Whether to name the classes found below the image, the largest first.
            Defaults to True.

    Returns:
        np.ndarray: The picture, BGR, uint8.
    """
    found = classes_found([labels], len(palette)) if legend else []
    picture = resized(image, display_scale(*image.shape[:2]))
    height, width = picture.shape[:2]
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    layer = cv2.LUT(cv2.merge([labels] * 3), table)
    np.copyto(layer, picture, where=(labels >= len(palette))[..., None])
    cv2.addWeighted(picture, 1 - REGION_OPACITY, layer, REGION_OPACITY, 0, dst=picture)
    reach = max(1, line_width(height, width) // 3)
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    edges = cv2.dilate(labels, around) != cv2.erode(labels, around)
    picture[edges] = layer[edges]
    names = display_names(classes)
    chips = Chips(picture)
    for region in _regions(labels, len(palette)):
        chips.put(names[region.label], palette[region.label], region.places)
    return add_legend(picture, found, classes, palette)


def classes_found(maps: Sequence[np.ndarray], num_classes: int) -> list[int]:
    """List the classes that are in class maps (H, W), uint8, by their pixels, the most first."""
    counts = np.sum([np.bincount(labels.ravel(), minlength=256) for labels in maps], 0)
    counts = counts[:num_classes]
    return [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]


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


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image (H, W, 3); always returns a new array."""
    if scale == 1:
        return image.copy()
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _tones(labels: np.ndarray, palette: Sequence[Color]) -> list[Color]:
    """Vary the color of each class over its objects: (N,) labels to N colors."""
    seen: Counter[int] = Counter()
    tones = []
    for label in labels.tolist():
        target, share = TONES[seen[label] % len(TONES)]
        seen[label] += 1
        blue, green, red = (round(part + share * (target - part)) for part in palette[label])
        tones.append((blue, green, red))
    return tones


def _edge(color: Color) -> Color:
    """The darker color of the edge of a line, by which it is seen on a ground of its own color."""
    blue, green, red = (round(EDGE * part) for part in color)
    return blue, green, red


def _line_widths(picture: np.ndarray, boxes: np.ndarray) -> list[int]:
    """Widths of the lines around boxes (N, 4), thin where they would fill a small one."""
    widest = line_width(*picture.shape[:2])
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=picture.shape[1])
    return np.clip(sides // 20, 1, widest).tolist()


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
    picture: np.ndarray,
    masks: Iterable[np.ndarray],
    scale: float,
    colors: list[Color],
    tones: list[Color],
    widths: list[int],
) -> None:
    """Tint the masks and draw their outlines, first instance on top."""
    shapes = [_outlines(mask, scale) for mask in masks]
    layer = picture.copy()
    for (outlines, hierarchy), tone in zip(shapes[::-1], tones[::-1], strict=True):
        cv2.drawContours(layer, outlines, -1, tone, cv2.FILLED, hierarchy=hierarchy)
    cv2.addWeighted(picture, 1 - MASK_OPACITY, layer, MASK_OPACITY, 0, dst=picture)
    for (outlines, _), color, width in zip(shapes[::-1], colors[::-1], widths[::-1], strict=True):
        cv2.drawContours(picture, outlines, -1, color, (width + 1) // 2, cv2.LINE_AA)


def _around(box: Sequence[int], height: int, width: int) -> Places:
    """List places for a label of (height, width): above, inside or below the box."""
    x1, y1, x2, y2 = box
    above, below = [(x1, y1 - height), (x2 - width, y1 - height)], [(x1, y2), (x2 - width, y2)]
    roomy = y2 - y1 >= 2 * height  # otherwise a label inside would cover the object
    return above + ([(x1, y1), (x1, y2 - height)] if roomy else []) + below
