"""Whether boxes and masks of a COCO file mean what the format says, or follow another convention.

Each convention is a hypothesis. It is named where most objects fit it and not the format: by their
masks, where they have some, else by where boxes lie in their images. What neither tells is left
alone: a file of boxes in the upper left of their images may be right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_api

MAX_OBJECTS = 20_000  # about how many objects are looked at, on whole images at equal distances
FEW, SEVERAL, SOME, MANY = 3, 5, 10, 20  # objects that rules need: fewer are no evidence
MIN_IMAGES = 3  # objects of one image may all lie in its upper left
MIN_SIDE = 200  # pixels of images in which boxes up to 100 are percent, not pixels
EQUAL, BETTER = 0.9, 0.1  # an IoU of what is the same, and the gain that tells two apart
BEYOND, FAR_BEYOND = 0.05, 0.3  # share of a side; loose boxes reach beyond by the first at most
TOLERANCE = 1.5  # pixels to which rounding may move an edge
UNRELATED = 0.3  # correlation of the centers of boxes and masks that belong together is near 1


class Doubt(NamedTuple):
    """What most objects speak against, and whether a file that is right is hardly like that."""

    text: str
    is_strong: bool = True


@dataclass
class _Objects:
    """N objects as arrays.

    Attributes:
        boxes: (N, 4), as the file has them.
        extents: (N, 4), x0, y0, x1, y1 around each mask; NaN for objects without.
        sizes: (N, 2), width and height of their images.
        images: (N,), the ids of their images.
    """

    boxes: np.ndarray
    extents: np.ndarray
    sizes: np.ndarray
    images: np.ndarray

    @property
    def limits(self) -> np.ndarray:
        """Width, height, width, height of the images, (N, 4)."""
        return np.tile(self.sizes, 2)

    @property
    def num_images(self) -> int:
        """How many images have an object."""
        return len(np.unique(self.images))


def find_doubts(annotations: Sequence[dict], sizes: dict[int, tuple[int, int]]) -> list[Doubt]:
    """Say what most objects of a file speak against.

    Args:
        annotations: The valid annotations of a COCO file. Of more than 20,000, those of some images
            are looked at.
        sizes: The (width, height) of each image by id.

    Returns:
        What they are instead, and how to cure it; empty for nearly every file.
    """
    if not annotations:
        return []
    doubts = []
    images = np.array([annotation["image_id"] for annotation in annotations])
    chosen = [annotations[index] for index in choose(images).tolist()]
    objects = _collect(chosen, sizes)
    if repeated := _find_repeated(chosen, objects):
        doubts.append(Doubt(repeated))
    if convention := _find_convention(objects):
        doubts.append(Doubt(convention))
    elif corner := _find_corner(objects):
        doubts.append(corner)
    return doubts


def choose(images: np.ndarray) -> np.ndarray:
    """Choose the annotations to look at.

    Args:
        images: (N,), the image of each annotation.

    Returns:
        (M,), the indices of those that are looked at: all, or those of some images.
    """
    if len(images) <= MAX_OBJECTS:
        return np.arange(len(images))
    _, first = np.unique(images, return_index=True)
    chosen = images[np.sort(first)][:: -(-len(images) // MAX_OBJECTS)]
    return np.flatnonzero(np.isin(images, chosen))


def _collect(annotations: Sequence[dict], sizes: dict[int, tuple[int, int]]) -> _Objects:
    images = [annotation["image_id"] for annotation in annotations]
    return _Objects(
        np.array([annotation["bbox"] for annotation in annotations], np.float64),
        _mask_extents([annotation.get("segmentation") for annotation in annotations]),
        np.array([sizes[image] for image in images], np.float64),
        np.array(images),
    )


def _mask_extents(masks: Sequence[Any]) -> np.ndarray:
    extents = np.full((len(masks), 4), np.nan)
    for index, mask in enumerate(masks):
        if isinstance(mask, dict):
            extents[index] = _rle_extent(mask)
        elif mask:
            xs = [part[0::2] for part in mask]
            ys = [part[1::2] for part in mask]
            low = min(map(min, xs)), min(map(min, ys))
            extents[index] = *low, max(map(max, xs)), max(map(max, ys))
    return extents


def _rle_extent(mask: dict) -> np.ndarray | float:
    if isinstance(mask["counts"], list):
        mask = mask_api.frPyObjects(mask, *mask["size"])
    x, y, width, height = mask_api.toBbox(mask)
    return np.array([x, y, x + width, y + height]) if width and height else np.nan


def _find_repeated(annotations: Sequence[dict], objects: _Objects) -> str | None:
    """Whether most objects are there more than once."""
    first: dict[tuple, int] = {}
    repeated: dict[int, int] = {}
    extents = np.nan_to_num(objects.extents, nan=-1.0).tolist()
    for index, (annotation, extent) in enumerate(zip(annotations, extents, strict=True)):
        keys = annotation["image_id"], annotation["category_id"]
        original = first.setdefault((*keys, *annotation["bbox"], *extent), index)
        if original != index:
            repeated[index] = original
    number = len(repeated) + len(set(repeated.values()))
    if number < SOME or number <= len(annotations) / 2:
        return None
    ids = [annotations[index]["id"] for index in next(iter(repeated.items()))]
    return (
        f"{number} of {len(annotations)} objects are there more than once, with the same image, "
        f"category and box: the first are the annotations with the ids {ids[1]} and {ids[0]}. "
        "Was a file merged with itself? Leave one of each"
    )


def _find_convention(objects: _Objects) -> str | None:
    """What boxes and masks are instead of pixels [x, y, width, height] and [x0, y0, x1, y1, ...].

    Of several findings the first is given: those before explain those after.
    """
    rules = (
        _find_fractions,
        _find_by_masks,
        _find_by_limits,
        _find_percent,
        _find_other_masks,
        _find_beyond,
    )
    return next((text for rule in rules if (text := rule(objects))), None)


def _find_fractions(objects: _Objects) -> str | None:
    large = objects.sizes.min(axis=1) >= 16  # in images of a few pixels boxes are small
    boxes = objects.boxes
    fractions = large & (boxes.max(axis=1) <= 1.5) & (boxes[:, 2:].min(axis=1) > 0)
    if fractions.sum() > len(boxes) / 2:
        return (
            f"{_count(fractions)} boxes are fractions (normalized, 0..1), the first is "
            f"{_first(boxes, fractions)}; expected [x, y, width, height] in pixels. Multiply them "
            "by the width and height of their images"
        )
    has_mask = ~np.isnan(objects.extents[:, 0])
    fractions = large & has_mask & (np.nan_to_num(objects.extents, nan=2).max(axis=1) <= 1.5)
    if fractions.sum() > has_mask.sum() / 2:
        return (
            f"{_count(fractions)} masks are polygons in fractions (normalized, 0..1); expected "
            "pixels. Multiply them by the width and height of their images"
        )
    return None


def _find_by_masks(objects: _Objects) -> str | None:
    """Compare what other conventions make of the boxes with the masks."""
    has_mask = ~np.isnan(objects.extents[:, 0])
    if has_mask.sum() < FEW:
        return None
    boxes, extents = objects.boxes[has_mask], objects.extents[has_mask]
    literal = _corners(boxes)
    own = _ious(literal, extents)
    apart = _overlaps(literal, extents) < 0.5 * _areas(extents)
    scores = []
    for text, one, other in _conventions(boxes, extents, objects.limits[has_mask]):
        fit = _ious(one, other)
        pro = ((fit >= EQUAL) & (own <= fit - BETTER)) | ((fit >= 0.5) & (own <= fit / 3))
        # Masks of visible parts lie somewhere in their boxes.
        inside = _overlaps(one, other) >= 0.95 * _areas(other)
        pro |= inside & apart & (fit >= 0.05) & (fit > own)
        con = own > fit + BETTER
        # Objects at the upper left, for one, may look alike in both.
        alike = np.median(fit) >= 0.75 and con.sum() <= pro.sum() / 10
        is_most = pro.sum() > len(boxes) / 2 or (alike and pro.sum() > len(boxes) / 4)
        if pro.sum() >= FEW and is_most:
            scores.append((pro.sum(), f"{pro.sum()} of {len(boxes)} {text}"))
    # Of those that fit about as well, the first: in square images, percent are a scale, too.
    most = max((number for number, _ in scores), default=0)
    return next((text for number, text in scores if number >= 0.95 * most), None)


def _conventions(
    boxes: np.ndarray, extents: np.ndarray, limits: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What a convention is called, and what would be alike if the file followed it."""
    literal = _corners(boxes)
    unlike = "boxes do not fit their masks as [x, y, width, height] in pixels, but do as "
    yield unlike + "[x1, y1, x2, y2]: they seem to hold corners. " + TO_WIDTH, boxes, extents
    centers = _from_centers(boxes)
    yield unlike + "[center x, center y, width, height]. " + TO_CORNER, centers, extents
    percent = limits / 100
    yield unlike + "percent of their images. " + TO_PIXELS, literal * percent, extents
    swapped = extents[:, [1, 0, 3, 2]]
    if _share_inside(extents, limits) >= 0.98 > _share_inside(literal, limits):
        yield unlike + "[y, x, height, width]. Swap x and y of the boxes", literal, swapped
    else:
        text = "masks do not fit their boxes as [x0, y0, x1, y1, ...], but do as [y0, x0, y1, x1, "
        yield text + "...]: polygons seem to be (y, x). Swap x and y of the masks", literal, swapped
    yield unlike + "[y1, x1, y2, x2]: they seem to hold corners. " + TO_WIDTH, boxes, swapped
    text = "masks do not fit their boxes in pixels, but do as percent of their images. " + TO_PIXELS
    yield text, literal, extents * percent
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = extents[:, 2:] / literal[:, 2:]
    scale = float(np.median(ratios[np.isfinite(ratios)])) if np.isfinite(ratios).any() else 1.0
    if scale > 1.25 or 0 < scale < 0.8:
        text = f"masks have {scale:.2f} times the coordinates of their boxes: they seem to be made "
        text += "on images of two sizes. Bring both to the size that 'images' gives"
        yield text, literal * scale, extents


TO_WIDTH = "Give width x2 - x1 and height y2 - y1"
TO_CORNER = "Take half of width and height off x and y"
TO_PIXELS = "Give pixels"


def _find_by_limits(objects: _Objects) -> str | None:
    """Compare where boxes lie in their images by the format and by other conventions."""
    boxes, limits = objects.boxes, objects.limits
    candidates = (
        ("[x1, y1, x2, y2]: they seem to hold corners. " + TO_WIDTH, boxes),
        ("[y1, x1, y2, x2]: they seem to hold corners. " + TO_WIDTH, boxes[:, [1, 0, 3, 2]]),
        ("[y, x, height, width]. Swap x and y", _corners(boxes[:, [1, 0, 3, 2]])),
        ("[center x, center y, width, height]. " + TO_CORNER, _from_centers(boxes)),
    )
    # Either the other convention puts them inside to a pixel, or the format puts them far outside.
    for margin, allowed, least in ((BEYOND, TOLERANCE, 0.98), (0.25, 0.1 * limits, 0.95)):
        over = _beyond(_corners(boxes), limits, margin)
        needed = len(boxes) / 4 if len(boxes) >= MANY else len(boxes) / 2
        if len(boxes) < SEVERAL or over.sum() <= needed:
            continue
        for text, corners in candidates:
            inside = _share_inside(corners, limits, allowed)
            if inside < least:
                continue
            return (
                f"{_count(over)} boxes reach beyond their images as [x, y, width, height], the "
                f"first is {_first(boxes, over)}; {inside:.0%} lie inside as {text}"
            )
    return None


def _find_percent(objects: _Objects) -> str | None:
    corners = _corners(objects.boxes)
    left, top, _, _ = corners.min(axis=0)
    right, bottom = corners[:, 2:].max(axis=0)
    large = objects.sizes.min(axis=1) >= MIN_SIDE
    if large.sum() < max(MANY, len(corners) / 2) or objects.num_images < MIN_IMAGES:
        return None
    # Loose boxes reach a little beyond 100.
    if not (80 < right <= 105 and 80 < bottom <= 105 and max(left, top) < 25):
        return None
    return (
        f"all {len(corners)} boxes end at {right:.4g} and {bottom:.4g} at most, {large.sum()} of "
        f"them in images of {MIN_SIDE} pixels and more: they seem to be percent. {TO_PIXELS}"
    )


def _find_corner(objects: _Objects) -> Doubt | None:
    """Whether boxes keep to the upper left of all images, as those of smaller images would."""
    shares = _corners(objects.boxes) / objects.limits
    left, top = shares[:, :2].min(axis=0)
    right, bottom = shares[:, 2:].max(axis=0)
    if len(shares) < MANY or objects.num_images < MIN_IMAGES:
        return None
    if max(right, bottom) > 0.52:
        return None
    is_half = min(right, bottom) > 0.42 and max(left, top) < 0.25
    text = (
        f"all {len(shares)} boxes lie in the upper left of their images, up to {right:.2f} of the "
        f"width and {bottom:.2f} of the height: they seem to be made on images of "
    )
    text += "half the size" if is_half else "a smaller size"
    return Doubt(text + ". Bring them to the size that 'images' gives", is_half)


def _find_other_masks(objects: _Objects) -> str | None:
    has_mask = ~np.isnan(objects.extents[:, 0])
    corners, extents = _corners(objects.boxes[has_mask]), objects.extents[has_mask]
    apart = _overlaps(corners, extents) < 0.5 * _areas(extents)
    sides = extents[:, 2:] - extents[:, :2]
    allowed = np.maximum(2 * TOLERANCE, BEYOND * sides.max(axis=1))
    differs = np.abs(corners - extents).max(axis=1) > allowed
    if len(corners) < SEVERAL or max(apart.sum(), differs.sum()) <= len(corners) / 2:
        return None
    elsewhere = differs & _are_among(extents, corners)
    found = apart | elsewhere
    if max(apart.sum(), elsewhere.sum()) <= len(corners) / 2:
        found = differs & (_overlaps(corners, extents) < 0.95 * _areas(extents))
        is_related = max(_correlations(corners, extents)) >= UNRELATED
        if len(corners) < MANY or found.sum() <= len(corners) / 2 or is_related:
            return None
    return (
        f"{_count(found)} masks do not lie in the boxes of their objects, the first box is "
        f"{_first(objects.boxes[has_mask], found)}, its mask lies in "
        f"{_first(np.hstack([extents[:, :2], sides]), found)}; {elsewhere.sum()} fit the box of "
        "another object: they seem to be masks of other objects. Write box and mask of each object "
        "together"
    )


def _correlations(ones: np.ndarray, others: np.ndarray) -> list[float]:
    """How the centers of boxes go together, in x and in y; 1 where all are at one place."""
    values = []
    for axis in (0, 1):
        one, other = (box[:, axis] + box[:, axis + 2] for box in (ones, others))
        is_spread = min(one.std(), other.std()) > 0
        values.append(float(np.corrcoef(one, other)[0, 1]) if is_spread else 1.0)
    return values


def _are_among(extents: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which extents equal any of the boxes, (N,)."""
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(corners).query(extents, p=np.inf, distance_upper_bound=TOLERANCE)
    return np.isfinite(distances)


def _find_beyond(objects: _Objects) -> str | None:
    boxes, limits = objects.boxes, objects.limits
    over = _beyond(_corners(boxes), limits, FAR_BEYOND)
    if len(boxes) < SOME or over.sum() <= len(boxes) / 2:
        return None
    text = (
        f"{_count(over)} boxes reach far beyond their images, the first is {_first(boxes, over)} "
        f"in an image of {_first(objects.sizes, over)}; expected [x, y, width, height] in pixels"
    )
    right, bottom = (_corners(boxes) / limits)[:, 2:].max(axis=0)
    if min(right, bottom) > 0.8 * max(right, bottom):
        text += (
            f". They seem to be made on images of about {max(right, bottom):.2g} times the size "
            "that 'images' gives"
        )
    return text


def _corners(boxes: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of boxes as x, y, width, height, both (N, 4)."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _from_centers(boxes: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of boxes as center x, center y, width, height, both (N, 4)."""
    return np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])


def _areas(corners: np.ndarray) -> np.ndarray:
    return np.maximum(corners[:, 2:] - corners[:, :2], 0).prod(axis=1)


def _overlaps(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(ones, others)[:, :2], np.minimum(ones, others)[:, 2:]
    return np.maximum(high - low, 0).prod(axis=1)


def _ious(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    both = _overlaps(ones, others)
    union = _areas(ones) + _areas(others) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _share_inside(
    corners: np.ndarray, limits: np.ndarray, allowed: float | np.ndarray = TOLERANCE
) -> float:
    """Which share of corners are boxes within their images, with some pixels allowed."""
    inside = (corners >= -allowed).all(axis=1) & (corners <= limits + allowed).all(axis=1)
    return float((inside & (corners[:, 2:] > corners[:, :2]).all(axis=1)).mean())


def _beyond(corners: np.ndarray, limits: np.ndarray, share: float) -> np.ndarray:
    """Which boxes reach beyond their images by more than a share of its side."""
    outside = (corners < -share * limits) | (corners > (1 + share) * limits)
    return np.any(outside, axis=1)


def _count(chosen: np.ndarray) -> str:
    return f"{chosen.sum()} of {len(chosen)}"


def _first(rows: np.ndarray, chosen: np.ndarray) -> str:
    return str([round(value, 2) for value in rows[chosen][0].tolist()])
