"""The generated trial data set: shapes with masks, class maps, captions, questions, statements.

Color and texture are drawn independently of the class, so only the outline tells what a thing is.
Objects hide one another in painter's order; one that would hide an earlier object too far, or be
cut too small itself, is not drawn at all. Every object in a picture is therefore annotated.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from rich.progress import track

from mmbeit3.datasets.shape_captions import (
    ALL,
    CAPTIONS,
    COLORS,
    SHAPES,
    Appearance,
    Sentence,
    Thing,
    any_sentences,
    describe,
    distinguishing,
    write_sentences,
)
from mmbeit3.datasets.shape_questions import Scene, all_questions, ask, write_questions
from mmbeit3.datasets.shape_statements import all_statements, judge, write_statements
from mmbeit3.utils import InputError

CLASSES = SHAPES
SPLITS = ("train", "val")
DESCRIPTION = "mmbeit3 generated shapes"
PALETTE = ((0, 0, 0), (230, 60, 60), (60, 170, 80), (60, 110, 230), (240, 190, 40), (170, 80, 200))

# Red, orange, yellow, green, cyan, blue, purple and pink, RGB, of plain pictures.
PLAIN = (
    *((242, 36, 43), (242, 139, 36), (242, 232, 36), (36, 242, 36)),
    *((36, 235, 242), (36, 71, 242), (163, 36, 242), (242, 121, 202)),
)
SUPERSAMPLE = 4  # shapes are drawn this much larger, then averaged: anti-aliased edges
MIN_RADIUS, MAX_RADIUS = 1 / 12, 1 / 4  # of the circle around an object, by the image size
MIN_VISIBLE = 0.3  # share of an object's pixels that others must leave visible
MIN_AREA = 40  # visible pixels
MIN_CONTRAST = 120.0  # RGB distance between an object's color and the mean of what it covers
JPEG_QUALITY = 92
# Beside the split's own sentences: drawn for each image to choose those that are true of no other.
CANDIDATES = 25
# What the generators of sentences, and of held-out combinations, are seeded by after the image.
SENTENCES, HELD_OUT = 1, 2
QUESTIONS, STATEMENTS = 3, 4  # the same of questions and statements, after the split
REPEATS = 20  # of each question and statement among the captions that the tokenizer is trained on

Combination = tuple[str, str]
"""A color and a shape."""
Box = tuple[slice, slice]
"""Rows and columns."""


class Drawing(NamedTuple):
    """A picture and the objects in it, earliest drawn first.

    Attributes:
        image: RGB, (size, size, 3) uint8.
        class_map: (size, size) uint8.
        masks: Of each object's visible part, (size, size) bool.
        labels: In 0..4.
        appearances: How each object is painted.
    """

    image: np.ndarray
    class_map: np.ndarray
    masks: list[np.ndarray]
    labels: list[int]
    appearances: list[Appearance]


def make_shapes(
    out_dir: str | Path,
    num_train: int = 400,
    num_val: int = 80,
    size: int = 128,
    seed: int = 0,
    progress: bool = False,
    held_out: int = 0,
    plain: bool = False,
) -> Path:
    """Generate the data set; the same arguments give the same bytes.

    Layout: ``{train,val}/*.jpg``, ``annotations/{train,val}.json`` (COCO polygons, category ids
    1..5) and ``semantic/{train,val}/*.png`` (8-bit palette PNG: 0 background, else category id).
    ``annotations/captions_{train,val}.json`` have up to five true sentences for each image in
    COCO's caption format, ``captions_train.txt`` those for training, a line each, and
    ``captions_val_unique.json`` sentences of which each is true of one held-out image only, for
    retrieval. ``questions_{train,val}.json`` and ``answers_{train,val}.json`` are in VQAv2's
    format, where an image's id is the number of its file; ``answer_list.txt`` has all answers that
    there are. ``statements_{train,val}.jsonl`` is in NLVR2's format, with ``left`` and ``right`` as
    the names of the images. Files are written beside ``out_dir`` first, so a run that is
    stopped leaves nothing half done.

    Args:
        out_dir: Folder to create. One that an earlier run made is replaced.
        num_train: Training images. Defaults to 400.
        num_val: Held-out images. Defaults to 80.
        size: Image width and height in pixels; objects are 1/6 to 1/2 of it.
            Defaults to 128.
        seed: Image i of a split depends on the seed, the split, i and the size alone.
            Defaults to 0.
        progress: Whether to show a progress bar. Defaults to False.
        held_out: How many combinations of color and shape no image shows that a caption, question
            or statement for training speaks of; ``held_out.json`` has them, and
            ``captions_val_held_out.json`` those of the sentences of ``captions_val_unique.json``
            that name one, as ``{questions,answers,statements}_val_held_out`` do.
            ``named_{train,val}.json`` have all objects, the held-out ones too, with a color and a
            shape as the class, or a shape where nobody would be sure of the color. The images
            themselves and their other annotations stay the same. Defaults to 0: those files are
            not written.
        plain: Whether objects have one color of :data:`PLAIN` each on a gray ground, in place of
            patterns on patterns: for models that learn in minutes to speak. Defaults to False.

    Returns:
        The folder.

    Raises:
        InputError: A number is out of range, or ``out_dir`` holds something else.
    """
    out_dir = Path(out_dir).resolve()
    if min(num_train, num_val) < 1:
        raise InputError(f"each split needs at least 1 image, got {num_train} and {num_val}")
    check_scenes(size, seed)
    check_place(out_dir, out_dir / "annotations" / "train.json")
    combinations = draw_combinations(seed, held_out)
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    for split_index, (split, count) in enumerate(zip(SPLITS, (num_train, num_val), strict=True)):
        things = _write_split(partial, split, split_index, count, size, seed, progress, plain)
        folder = partial / "annotations"
        _write_captions(folder, split, split_index, things, seed, combinations)
        _write_questions(folder, split, split_index, things, seed, combinations)
        if combinations:
            _write_named(folder, split, things)
    answers = dict.fromkeys(answer for one in all_questions() for answer in one.choices)
    (partial / "annotations" / "answer_list.txt").write_text("\n".join(answers) + "\n")
    if out_dir.exists():
        shutil.rmtree(out_dir)
    partial.rename(out_dir)
    return out_dir


def check_scenes(size: int, seed: int) -> None:
    """Refuse what no scene can be drawn of.

    Raises:
        InputError: The size or the seed is out of range.
    """
    if size < 64:
        raise InputError(f"size is {size}: shapes cannot be told apart below 64 pixels")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")


def check_place(out_dir: Path, ann_file: Path) -> None:
    """Refuse a folder with something else in it than an earlier run has made.

    Args:
        out_dir: The folder.
        ann_file: The file in it that an earlier run begins with :data:`DESCRIPTION`.

    Raises:
        InputError: It is another one.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not (ann_file.is_file() and DESCRIPTION.encode() in _head(ann_file)):
        raise InputError(
            f"{out_dir} exists and was not made by this command: nothing was written; "
            "give a new folder"
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200)


def _write_split(
    root: Path,
    split: str,
    split_index: int,
    count: int,
    size: int,
    seed: int,
    progress: bool,
    plain: bool,
) -> list[list[Thing]]:
    """Write images, masks and class maps; gives the objects of each image."""
    image_dir, map_dir = root / split, root / "semantic" / split
    for folder in (image_dir, map_dir, root / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    things: list[list[Thing]] = []
    for index in track(range(count), f"drawing {split}", disable=not progress):
        drawing = draw_sample(np.random.default_rng([seed, split_index, index]), size, plain)
        name = f"{index:06d}"
        (image_dir / f"{name}.jpg").write_bytes(encode_image(drawing))
        _write_class_map(map_dir / f"{name}.png", drawing.class_map)
        images.append({"id": index + 1, "file_name": f"{name}.jpg", "width": size, "height": size})
        things.append(find_things(drawing))
        for mask, label in zip(drawing.masks, drawing.labels, strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1}
                | _mask_fields(mask)
            )
    data = {
        "info": {"description": DESCRIPTION, "seed": seed, "size": size},
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
        "annotations": annotations,
    }
    (root / "annotations" / f"{split}.json").write_text(json.dumps(data))
    return things


def _write_named(folder: Path, split: str, things: list[list[Thing]]) -> None:
    """Write the objects of a split with colors in the names of their classes."""
    data = json.loads((folder / f"{split}.json").read_text())
    names = [*CLASSES, *(f"{color} {shape}" for shape in CLASSES for color in COLORS)]
    said = [f"{one.color or ''} {one.shape}".strip() for image in things for one in image]
    for annotation, name in zip(data["annotations"], said, strict=True):
        annotation["category_id"] = names.index(name) + 1
    data["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    (folder / f"named_{split}.json").write_text(json.dumps(data))


def tokenizer_texts() -> list[str]:
    """Make texts of all words, always the same, to train a tokenizer that fits any such data."""
    texts = [question.text for question in all_questions()]
    texts += [statement.text for statement in all_statements()]
    return any_sentences() + REPEATS * texts


def draw_combinations(seed: int, number: int) -> list[Combination]:
    """Choose colors and shapes that training does not see together; the same seed, the same ones.

    Raises:
        InputError: The number is negative, or half of all or more.
    """
    every = [(color, shape) for shape in CLASSES for color in COLORS]
    if not 0 <= number < len(every) // 2:
        raise InputError(f"held_out is {number}, expected 0 to {len(every) // 2 - 1} combinations")
    chosen = np.random.default_rng([seed, HELD_OUT]).permutation(len(every))[:number]
    return [every[index] for index in sorted(chosen)]


def sentence_generator(seed: int, split_index: int, index: int) -> np.random.Generator:
    """Source of the randomness of the sentences of an image."""
    return np.random.default_rng([seed, split_index, index, SENTENCES])


def _write_captions(
    folder: Path,
    split: str,
    split_index: int,
    things: list[list[Thing]],
    seed: int,
    combinations: list[Combination],
) -> None:
    """Write the sentences of a split, and of the held-out one those for retrieval."""
    generators = [sentence_generator(seed, split_index, index) for index in range(len(things))]
    sentences = [write_sentences(t, rng) for t, rng in zip(things, generators, strict=True)]
    if split == "train":
        kept = [
            [] if _shows(image, combinations) else found
            for found, image in zip(sentences, things, strict=True)
        ]
        _write_caption_file(folder / "captions_train.json", kept)
        lines = "".join(f"{sentence.text}\n" for found in kept for sentence in found)
        (folder / "captions_train.txt").write_text(lines)
        if combinations:
            rest = {
                "combinations": [list(pair) for pair in combinations],
                "images_without_captions": sum(not found for found in kept),
            }
            (folder / "held_out.json").write_text(json.dumps(rest))
        return
    _write_caption_file(folder / "captions_val.json", sentences)
    unique, held_out = [], []
    for image, rng in zip(things, generators, strict=True):
        candidates = write_sentences(image, rng, CANDIDATES, ALL)
        found = distinguishing(candidates, image, things)
        unique.append(found[:CAPTIONS])
        held_out.append([one for one in found if _names(one, combinations)][:CAPTIONS])
    _write_caption_file(folder / "captions_val_unique.json", unique)
    if combinations:
        _write_caption_file(folder / "captions_val_held_out.json", held_out)


def _write_questions(
    folder: Path,
    split: str,
    split_index: int,
    things: list[list[Thing]],
    seed: int,
    combinations: list[Combination],
) -> None:
    """Write the questions and the statements of a split."""
    scenes = {
        number: Scene(image)
        for number, image in enumerate(things)
        if split == "val" or not _shows(image, combinations)
    }
    asked = ask(scenes, np.random.default_rng([seed, split_index, QUESTIONS]))
    judged = judge(scenes, np.random.default_rng([seed, split_index, STATEMENTS]))
    write_questions(folder, split, asked, DESCRIPTION)
    write_statements(folder, split, judged)
    if split == "val" and combinations:
        named = [one for one in asked if one.question.names(one.answer, combinations)]
        write_questions(folder, "val_held_out", named, DESCRIPTION)
        said = [one for one in judged if one.statement.pair in combinations]
        write_statements(folder, "val_held_out", said)


def _shows(things: list[Thing], combinations: list[Combination]) -> bool:
    return any((thing.color, thing.shape) in combinations for thing in things)


def _names(sentence: Sentence, combinations: list[Combination]) -> bool:
    return any((words.color, words.shape) in combinations for words in sentence.said)


def _write_caption_file(path: Path, sentences: list[list[Sentence]]) -> None:
    """Write the sentences of each image; images that have none are left out."""
    rows = [(index, one.text) for index, found in enumerate(sentences, 1) for one in found]
    data = {
        "info": {"description": DESCRIPTION},
        "images": [
            {"id": index, "file_name": f"{index - 1:06d}.jpg"}
            for index, found in enumerate(sentences, 1)
            if found
        ],
        "annotations": [
            {"image_id": index, "id": number, "caption": text}
            for number, (index, text) in enumerate(rows, start=1)
        ],
    }
    path.write_text(json.dumps(data))


def _write_class_map(path: Path, class_map: np.ndarray) -> None:
    image = Image.fromarray(class_map)
    image.putpalette([channel for color in PALETTE for channel in color])  # makes it mode P
    image.save(path)


def draw_sample(rng: np.random.Generator, size: int, plain: bool = False) -> Drawing:
    """Draw one picture.

    Args:
        rng: Source of all randomness.
        size: Width and height in pixels.
        plain: See :func:`make_shapes`. Defaults to False.
    """
    image = np.full((size, size, 3), rng.uniform(105, 150)) if plain else _background(rng, size)
    masks: list[np.ndarray] = []
    full_areas: list[int] = []
    labels: list[int] = []
    appearances: list[Appearance] = []
    wanted = int(rng.integers(2, 8))
    for _ in range(4 * wanted):
        if len(masks) == wanted:
            break
        label = int(rng.integers(len(CLASSES)))
        coverage = _rasterise(_place(_outline(CLASSES[label], rng), rng, size), size)
        mask = coverage >= 0.5
        if not _fits(mask, masks, full_areas):
            continue
        masks = [earlier & ~mask for earlier in masks] + [mask]
        full_areas.append(int(mask.sum()))
        labels.append(label)
        box = _box(coverage > 0)  # what lies outside stays as it is
        if plain:
            color = np.array(PLAIN[rng.integers(len(PLAIN))], float)
            texture, appearance = color, Appearance(color, color, "flat")
        else:
            texture, appearance = _texture(rng, size, box, avoid=image[mask].mean(axis=0))
        appearances.append(appearance)
        image[box] += coverage[box][..., None] * (texture - image[box])
    class_map = np.zeros((size, size), np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        class_map[mask] = label + 1
    image += rng.normal(0, rng.uniform(0, 6), image.shape)
    image = np.clip(image.round(), 0, 255).astype(np.uint8)
    return Drawing(image, class_map, masks, labels, appearances)


def encode_image(drawing: Drawing) -> bytes:
    """Give the JPEG file of a picture."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", drawing.image[..., ::-1], quality)[1].tobytes()


def find_things(drawing: Drawing) -> list[Thing]:
    """Describe the objects of a picture as sentences speak of them."""
    found = []
    objects = zip(drawing.masks, drawing.labels, drawing.appearances, strict=True)
    for mask, label, appearance in objects:
        box, area = _bbox(mask), int(mask.sum())
        found.append(describe(CLASSES[label], appearance, box, area, len(mask)))
    return found


def _fits(mask: np.ndarray, masks: list[np.ndarray], full_areas: list[int]) -> bool:
    """Whether the new object and all those that it covers in part stay visible enough."""
    if mask.sum() < MIN_AREA:
        return False
    for earlier, full_area in zip(masks, full_areas, strict=True):
        if (earlier & ~mask).sum() < max(MIN_AREA, MIN_VISIBLE * full_area):
            return False
    return True


def _outline(name: str, rng: np.random.Generator) -> list[np.ndarray]:
    """The shape's contours (N, 2) within the unit circle; a second contour is a hole."""
    if name == "disk":
        return [_regular(48)]
    if name == "ring":
        return [_regular(48), rng.uniform(0.5, 0.65) * _regular(48)]
    if name == "star":
        star = _regular(10)
        star[1::2] *= rng.uniform(0.38, 0.48)
        return [star]
    return [_regular({"square": 4, "triangle": 3}[name])]


def _regular(corners: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _place(contours: list[np.ndarray], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Squeeze, turn, scale and move the contours to pixel coordinates."""
    radius = size * np.exp(rng.uniform(np.log(MIN_RADIUS), np.log(MAX_RADIUS)))
    turn, axis = rng.uniform(0, 2 * np.pi, size=2)
    squeeze = np.diag([1.0, rng.uniform(0.8, 1.0)])
    matrix = radius * _rotation(axis) @ squeeze @ _rotation(turn)
    center = rng.uniform(0.08, 0.92, size=2) * size
    return [contour @ matrix.T + center for contour in contours]


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _rasterise(contours: list[np.ndarray], size: int) -> np.ndarray:
    """The share of each pixel that the contours cover, (size, size) float in 0..1."""
    canvas = np.zeros((size * SUPERSAMPLE, size * SUPERSAMPLE), np.uint8)
    points = [np.round(contour * SUPERSAMPLE - 0.5).astype(np.int32) for contour in contours]
    cv2.fillPoly(canvas, points, 255)  # several contours at once: even-odd, holes stay open
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / 255.0


def _texture(
    rng: np.random.Generator, size: int, box: Box, avoid: np.ndarray
) -> tuple[np.ndarray, Appearance]:
    """A two-color pattern (h, w, 3) float in a box, whose main color stands out from ``avoid``."""
    main = rng.uniform(0, 255, 3)
    while np.linalg.norm(main - avoid) < MIN_CONTRAST:
        main = rng.uniform(0, 255, 3)
    second = main + rng.uniform(0.1, 0.4) * (rng.uniform(0, 255, 3) - main)
    kind, weight = _pattern(rng, size, box)
    return _mix(weight, main, second), Appearance(main, second, kind)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A pattern over a gradient, with thin lines across it that belong to nothing."""
    first, second, third = rng.uniform(20, 235, (3, 3))
    image = _mix(_gradient(rng, size), first, first + 0.3 * (second - first))
    image += rng.uniform(0, 0.15) * _pattern(rng, size)[1][..., None] * (third - image)
    for _ in range(rng.integers(0, 4)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        color = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, start, end, color, int(rng.integers(1, 3)))
    return image


def _mix(weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + weight[..., None] * (second - first)


def _pattern(
    rng: np.random.Generator, size: int, box: Box = (slice(None), slice(None))
) -> tuple[str, np.ndarray]:
    """One of six patterns of a picture at random: its name, and (h, w) of a box, float in 0..1."""
    kind = str(rng.choice(["flat", "gradient", "noise", "stripes", "checker", "dots"]))
    if kind == "flat":
        return kind, np.zeros((size, size))[box]
    if kind == "gradient":
        return kind, _gradient(rng, size)[box]
    if kind == "noise":
        coarse = rng.uniform(0, 1, (size // 6, size // 6))
        return kind, cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)[box]
    axes = [axis[box] for axis in _turned_grid(rng, size)]
    period = rng.uniform(0.0375, 0.0875) * size  # the image's side has 11 to 27 of them
    u, *v = [np.sin(2 * np.pi * axis / period) for axis in axes[: 1 if kind == "stripes" else 2]]
    waves = u if kind == "stripes" else u * v[0] if kind == "checker" else u + v[0] - 0.9
    return kind, (waves > 0).astype(float)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    ramp, _ = _turned_grid(rng, size)
    return (ramp - ramp.min()) / (ramp.max() - ramp.min())


def _turned_grid(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (size, size) along two perpendicular axes at a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    along = np.arange(size, dtype=float)
    return cos * along + (sin * along)[:, None], (cos * along)[:, None] - sin * along


def _box(mask: np.ndarray) -> Box:
    """The smallest box around the pixels of a mask (H, W) bool."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _bbox(mask: np.ndarray) -> list[int]:
    """The same as COCO has it: x, y, width, height."""
    rows, columns = _box(mask)
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


def _mask_fields(mask: np.ndarray) -> dict:
    """The COCO fields of a visible mask (H, W) bool."""
    return {
        "bbox": _bbox(mask),
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": mask_to_polygons(mask),
    }


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Trace a mask as COCO polygons, one for each connected part.

    A hole is joined to its outline by a bridge of no width, there and back: the COCO rasteriser
    fills by parity, so the hole stays open, and the format needs no run-length encoding.

    Args:
        mask: (H, W) bool.

    Returns:
        Flat ``[x0, y0, x1, y1, ...]`` lists in pixels, to an eighth of a pixel.
    """
    # cv2 traces through pixel centers, which cuts half a pixel off all around; on an enlarged
    # mask that loss is an eighth of a pixel.
    scale = 4
    large = mask.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0][:, 3]
    simple = [cv2.approxPolyDP(contour, 1.5, closed=True)[:, 0] for contour in contours]
    polygons = []
    for index, polygon in enumerate(simple):
        if parents[index] >= 0 or len(polygon) < 3:
            continue
        for hole in np.flatnonzero(parents == index):
            polygon = _bridge(polygon, simple[hole])
        polygons.append(((polygon + 0.5) / scale).ravel().tolist())
    return polygons


def _bridge(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Walk the outline to the vertex nearest the hole, around the hole, back, and on."""
    distances = np.linalg.norm(outer[:, None] - hole[None], axis=-1)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    around = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([outer[: i + 1], around, outer[i:]])
