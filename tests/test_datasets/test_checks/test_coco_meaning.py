"""Random sound files raise no doubt; each wrong convention is named by what it is."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmbeit3.datasets.checks.coco_meaning import MAX_OBJECTS, find_doubts

NUM_SEEDS = 200
Objects = list[dict]
Sizes = dict[int, tuple[int, int]]


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    xs = (x0 + x1) / 2 + np.cos(angles) * (x1 - x0) / 2
    ys = (y0 + y1) / 2 + np.sin(angles) * (y1 - y0) / 2
    return np.stack([xs, ys], axis=1).ravel().round(2).tolist()


def _mask(kind: str, extent: list[float], size: tuple[int, int], rng: np.random.Generator) -> dict:
    x0, y0, x1, y1 = extent
    if kind == "polygons":
        return {"segmentation": [_ellipse(*extent)]}
    if kind == "visible parts":
        parts = []
        for _ in range(rng.integers(1, 4)):
            share = rng.uniform(0.2, 0.9)
            left, top = rng.random(2) * (1 - share) * [x1 - x0, y1 - y0] + [x0, y0]
            right, bottom = left + share * (x1 - x0), top + share * (y1 - y0)
            parts.append(_ellipse(left, top, right, bottom))
        return {"segmentation": parts}
    if kind == "RLE":
        pixels = np.zeros(size[::-1], np.uint8, order="F")
        low, high = np.maximum([x0, y0], 0).astype(int), np.maximum([x1, y1], 1).round().astype(int)
        pixels[low[1] : high[1], low[0] : high[0]] = 1
        code = mask_api.encode(pixels)
        return {"segmentation": {"size": list(size[::-1]), "counts": code["counts"].decode()}}
    return {}


def _sound(
    seed: int,
    images: tuple[int, ...] = (1, 2, 4, 8, 30),
    numbers: tuple[int, ...] = (1, 2, 3, 5, 8, 20, 60, 150),
    scales: tuple[tuple[float, float], ...] = ((0.02, 0.1), (0.03, 0.7), (0.5, 1)),
    looseness: tuple[float, ...] = (0, 0.05, 0.2),
    overhangs: tuple[float, ...] = (0, 0.02, 0.1),
    kinds: tuple[str, ...] = ("polygons", "RLE", "none", "visible parts", "mixed"),
    sides: tuple[int, ...] = (64, 128, 300, 640, 1500),
) -> tuple[Objects, Sizes]:
    """A file as people make them; each setting of the file is drawn of those given."""
    rng = np.random.default_rng(seed)
    num_images, number = rng.choice(images), max(rng.choice(numbers), 1)
    width, scale = int(rng.choice(sides)), scales[rng.integers(len(scales))]
    loose, over, kind = rng.choice(looseness), rng.choice(overhangs), rng.choice(kinds)
    ratios = rng.choice([0.5, 0.66, 0.75, 1, 1.33, 1.5], num_images)
    sizes = {i: (width, int(width * ratio)) for i, ratio in enumerate(ratios.tolist())}
    objects: Objects = []
    for index in range(number):
        image = int(rng.integers(num_images))
        size = np.array(sizes[image])
        sides_ = np.clip(np.exp(rng.uniform(*np.log(scale), 2)) * size, 3, size)
        low = rng.random(2) * (size - sides_)
        extent = [*low, *(low + sides_)]
        if over and rng.random() < 0.3:  # the object goes on outside
            side = rng.integers(4)
            reach = over * size[side % 2] * rng.random()
            extent[side] = -reach if side < 2 else size[side - 2] + reach
        slack = loose * np.tile(sides_, 2) * rng.random(4) * [-1, -1, 1, 1]
        x0, y0, x1, y1 = extent + slack
        mask = kind if kind != "mixed" else rng.choice(["polygons", "RLE", "none"])
        entry = {
            "id": index,
            "image_id": image,
            "category_id": int(rng.integers(1, 4)),
            "bbox": [round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "area": float(sides_.prod()),
            "iscrowd": int(rng.random() < 0.05),
        }
        objects.append(entry | _mask(mask, extent, sizes[image], rng))
    for entry in objects[: number // 10]:  # a few are there twice
        objects.append(copy.deepcopy(entry) | {"id": len(objects)})
    return objects, sizes


def _with_boxes(convert: Callable) -> Callable:
    def change(objects: Objects, sizes: Sizes, _: random.Random) -> Objects:
        return [
            one | {"bbox": [float(v) for v in convert(*one["bbox"], *sizes[one["image_id"]])]}
            for one in objects
        ]

    return change


def _with_points(convert: Callable) -> Callable:
    """Change polygons by a function of their points, (N, 2)."""

    def change(objects: Objects, *_: object) -> Objects:
        masks = [
            [convert(np.reshape(part, (-1, 2))).ravel().tolist() for part in one["segmentation"]]
            for one in objects
        ]
        return [one | {"segmentation": mask} for one, mask in zip(objects, masks, strict=True)]

    return change


def _shuffled(objects: Objects, _: Sizes, rng: random.Random) -> Objects:
    masks = [one["segmentation"] for one in objects]
    rng.shuffle(masks)
    return [one | {"segmentation": mask} for one, mask in zip(objects, masks, strict=True)]


def _rotated(objects: Objects, *_: object) -> Objects:
    """Give each object the mask of the next one in its image."""
    changed = []
    for one in objects:
        own = [other for other in objects if other["image_id"] == one["image_id"]]
        after = own[(own.index(one) + 1) % len(own)]
        changed.append(one | {"segmentation": after["segmentation"]})
    return changed


def _twice(objects: Objects, *_: object) -> Objects:
    return [*objects, *(one | {"id": one["id"] + 10**6} for one in objects)]


def _half(objects: Objects, sizes: Sizes, rng: random.Random) -> Objects:
    objects = HALF_BOXES(objects, sizes, rng)
    has_masks = "segmentation" in objects[0]
    return _with_points(lambda points: points / 2)(objects) if has_masks else objects


def _percent_masks(objects: Objects, sizes: Sizes, _: random.Random) -> Objects:
    changed = []
    for one in objects:
        points = np.reshape(one["segmentation"][0], (-1, 2)) * 100 / sizes[one["image_id"]]
        changed.append(one | {"segmentation": [points.ravel().tolist()]})
    return changed


CORNERS = _with_boxes(lambda x, y, w, h, *_: (x, y, x + w, y + h))
SWAPPED_CORNERS = _with_boxes(lambda x, y, w, h, *_: (y, x, y + h, x + w))
CENTERS = _with_boxes(lambda x, y, w, h, *_: (x + w / 2, y + h / 2, w, h))
FRACTIONS = _with_boxes(lambda x, y, w, h, W, H: (x / W, y / H, w / W, h / H))
YOLO = _with_boxes(lambda x, y, w, h, W, H: ((x + w / 2) / W, (y + h / 2) / H, w / W, h / H))
PERCENT = _with_boxes(lambda x, y, w, h, W, H: (100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H))
HALF_BOXES = _with_boxes(lambda *values: [value / 2 for value in values[:4]])
TRANSPOSED = _with_boxes(lambda x, y, w, h, *_: (y, x, h, w))
DOUBLE_BOXES = _with_boxes(lambda *values: [value * 2 for value in values[:4]])

WITH_MASKS = {
    "corners": (CORNERS, "as [x1, y1, x2, y2]: they seem to hold corners"),
    "swapped corners": (SWAPPED_CORNERS, "as [y1, x1, y2, x2]: they seem to hold corners"),
    "centers": (CENTERS, "as [center x, center y, width, height]"),
    "fractions": (FRACTIONS, "boxes are fractions (normalized, 0..1)"),
    "yolo": (YOLO, "boxes are fractions (normalized, 0..1)"),
    "percent": (PERCENT, "as percent of their images"),
    "half": (_half, "images of half the size"),
    "half boxes": (
        HALF_BOXES,
        "times the coordinates of their boxes: they seem to be made on images of two",
    ),
    "y, x": (_with_points(lambda points: points[:, ::-1]), "polygons seem to be (y, x)"),
    "mask fractions": (
        _with_points(lambda points: points / 2000),
        "masks are polygons in fractions (normalized, 0..1)",
    ),
    "mask percent": (_percent_masks, "masks do not fit their boxes in pixels, but do as percent"),
    "other masks": (_shuffled, "they seem to be masks of other objects"),
    "other masks of the image": (_rotated, "they seem to be masks of other objects"),
    "twice": (_twice, "are there more than once, with the same image, category and box"),
}
BOXES_ONLY = {
    "corners": (CORNERS, "as [x1, y1, x2, y2]: they seem to hold corners"),
    "fractions": (FRACTIONS, "boxes are fractions (normalized, 0..1)"),
    "percent": (PERCENT, "they seem to be percent"),
    "half": (_half, "images of half the size"),
    "double": (DOUBLE_BOXES, "reach far beyond their images"),
    "twice": (_twice, "are there more than once, with the same image, category and box"),
}


def _found(objects: Objects, sizes: Sizes) -> str:
    """What would be errors."""
    return "\n".join(doubt.text for doubt in find_doubts(objects, sizes) if doubt.is_strong)


def test_sound_files_raise_no_doubt() -> None:
    for seed in range(NUM_SEEDS):
        assert find_doubts(*_sound(seed)) == [], f"seed {seed}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("polygons", name) for name in WITH_MASKS] + [("none", name) for name in BOXES_ONLY],
)
def test_a_wrong_convention_is_named(kind: str, name: str) -> None:
    change, message = (WITH_MASKS if kind == "polygons" else BOXES_ONLY)[name]
    num_seeds = 60
    named = 0
    for seed in range(num_seeds):
        objects, sizes = _sound(
            seed,
            images=(4, 8, 12),
            numbers=(24, 60, 150),
            scales=((0.03, 0.2), (0.03, 0.5), (0.1, 0.7)),
            looseness=(0, 0.05),
            overhangs=(0, 0.02),
            kinds=(kind,),
            sides=(400, 640, 1500),
        )
        named += message in _found(change(objects, sizes, random.Random(seed)), sizes)
    assert named >= 0.95 * num_seeds


@pytest.mark.parametrize("counts", ["compressed", "list"])
@pytest.mark.parametrize("name", ["corners", "centers", "percent", "other masks", "half boxes"])
def test_run_length_codes_are_compared_too(name: str, counts: str) -> None:
    change, message = WITH_MASKS[name]
    objects, sizes = _sound(3, (8,), (60,), ((0.05, 0.4),), (0.05,), (0,), ("RLE",), (300,))
    if counts == "list":
        for one in objects:
            pixels = mask_api.decode(one["segmentation"]).ravel(order="F").astype(int)
            edges = np.flatnonzero(np.diff(pixels, prepend=0))
            runs = np.diff(edges, prepend=0, append=pixels.size).tolist()
            one["segmentation"] = one["segmentation"] | {"counts": runs}
    for image in sizes:  # of one size, as masks are shuffled
        sizes[image] = sizes[objects[0]["image_id"]]
    assert message in _found(change(objects, sizes, random.Random(0)), sizes)


# ---------------------------------------------------------------- what nobody can know

SIZES = {index: (640, 480) for index in range(10)}


def _boxes(boxes: list[list[float]], images: int = 10) -> Objects:
    return [
        {"id": i, "image_id": i % images, "category_id": 1, "bbox": box, "area": 9, "iscrowd": 0}
        for i, box in enumerate(boxes)
    ]


def _spread(number: int, low: tuple[int, int], high: tuple[int, int], side: int) -> list:
    rng = np.random.default_rng(0)
    places = rng.uniform(low, np.subtract(high, side), (number, 2))
    return [[*place, side, side] for place in places.tolist()]


@pytest.mark.parametrize(
    "objects",
    [
        _boxes([[0, 0, 640, 480]] * 9),  # whole images
        _boxes([[12 + i, 9, 640 - 9, 480 - 7] for i in range(40)]),  # a little beyond them
        _boxes([[-150 + i, 40, 700, 380] for i in range(20)]),
        _boxes([[30, -90 + i, 560, 700] for i in range(20)]),
        _boxes([[600, 400, 300, 200], [20, 20, 40, 40], [0, 0, 1, 1]]),
        _boxes(_spread(200, (0, 0), (300, 220), 20), images=2),  # in the corner of two pictures
        _boxes(_spread(200, (0, 0), (100, 100), 20), images=2),
        _boxes(_spread(12, (0, 0), (300, 220), 20)),  # a dozen in the corner
        _boxes(_spread(15, (0, 0), (100, 100), 20)),
        _boxes([[0, 0, 1, 1]]),
        _boxes([[5, 5, 0, 0]] * 9),
    ],
)
def test_what_may_be_right_is_no_error(objects: Objects) -> None:
    large = [one for one in objects if min(one["bbox"][2:]) > 1]
    assert _found(large, SIZES) == ""


def test_boxes_in_the_upper_left_of_all_images_are_a_warning() -> None:
    objects = _boxes(_spread(60, (0, 0), (200, 100), 20))
    (doubt,) = find_doubts(objects, SIZES)
    assert not doubt.is_strong and "they seem to be made on images of a smaller size" in doubt.text


def test_swapped_boxes_are_told_from_swapped_masks() -> None:
    objects, _ = _sound(5, (8,), (60,), ((0.05, 0.3),), (0,), (0,), ("polygons",), (640,))
    sizes = {one["image_id"]: (640, 320) for one in objects}
    for one in objects:  # all fit into the lower images
        one["bbox"][1::2] = [value / 3 for value in one["bbox"][1::2]]
        points = np.reshape(one["segmentation"][0], (-1, 2)) / [1, 3]
        one["segmentation"] = [points.ravel().tolist()]
    found = _found(TRANSPOSED(objects, sizes, random.Random(0)), sizes)
    assert "as [y, x, height, width]. Swap x and y of the boxes" in found


def test_a_large_file_is_looked_at_in_part() -> None:
    number = 3 * MAX_OBJECTS
    boxes = _spread(number, (0, 0), (640, 480), 20)
    sizes = {index: (640, 480) for index in range(number // 10)}
    objects = [one | {"image_id": one["id"] // 10} for one in _boxes(boxes)]
    assert find_doubts(objects, sizes) == []
    assert f"of {MAX_OBJECTS} boxes" in _found(CORNERS(objects, sizes, random.Random(0)), sizes)


# ---------------------------------------------------------------- real files

REAL = [
    "coco_sample/annotations/instances_train2017.json",
    "fruits_nuts/train.json",
    "nuclei_dsb2018/train.json",
]


@pytest.mark.parametrize("file", REAL)
def test_parts_of_real_files(data_root: Path, file: str) -> None:
    data = json.loads((data_root / file).read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    rng = random.Random(0)
    for _ in range(100):
        chosen = set(rng.sample(sorted(sizes), min(len(sizes), rng.choice((1, 2, 3, 5, 20)))))
        objects = [one for one in data["annotations"] if one["image_id"] in chosen]
        assert find_doubts(objects, sizes) == []
        few = rng.sample(objects, min(len(objects), rng.randrange(1, 6)))
        boxes = [{key: one[key] for key in one if key != "segmentation"} for one in objects]
        assert find_doubts(few, sizes) == find_doubts(boxes, sizes) == []


@pytest.mark.parametrize("name", ["corners", "fractions", "percent", "twice", "half boxes"])
@pytest.mark.parametrize("file", REAL)
def test_real_files_of_another_convention(data_root: Path, file: str, name: str) -> None:
    data = json.loads((data_root / file).read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    change, message = WITH_MASKS[name]
    assert message in _found(change(data["annotations"], sizes, random.Random(0)), sizes)
