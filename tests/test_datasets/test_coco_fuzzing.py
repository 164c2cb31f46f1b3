"""1,000 mutations of a COCO file: each is read as it stands there, or refused by naming the entry.

"Read as it stands there": boxes, labels, crowds and masks that the data set's pipeline hands to
training are those that a second, plain reading of the file gives. It is in this file.
"""

from __future__ import annotations

import copy
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools import mask as mask_api

from mmbeit3.datasets import CocoDataset
from mmbeit3.utils import InputError

from .fuzzing import time_limit

NUM_MUTATIONS = 1000
SIZES = {3: (24, 16), 8: (20, 20), 5: (16, 24)}  # (width, height) by image id
NAMES = ("annotations", "images", "categories", "info", "id", "image_id", "category_id", "bbox")
NOT_POSSIBLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
KEYS = (*NAMES, "area", "iscrowd", "ignore", "segmentation", "size", "counts", "file_name", "name")
EXTREMES = (
    *(0, 1, -1, 2, 0.5, -0.0, 1e-30, 23.999, 1e6, 1e300, -1e300, 2**31, 2**63, 10**30, 10**400),
    *(float("nan"), float("inf"), float("-inf"), True, False, None, "", " ", "7", "1.5", "NaN"),
    *("\u732b", "\ud800", "a\0b", "../x.png", "x" * 5000, [], {}, [[]], [None], {"a": 1}),
    *([1, 2], [0, 0, 5, 5], [[0, 0, 5, 5, 0, 5]], {"size": [16, 24], "counts": [384]}),
)
# What a refusal names: an entry, a place in the text, a key, or the image.
ENTRY = re.compile(
    r"(images|annotations|categories)\[\d+\]|line \d+, column \d+|byte \d+|top level|nested|"
    r"character [\d,]+: the key|"
    r"'(images|annotations|categories)' is|number that is too long|\.png|all \d+ boxes|"
    r"annotation with id -?\d+|images that .* names are missing, the first: "
)


def _rle(mask: np.ndarray, compressed: bool) -> dict:
    height, width = mask.shape
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    runs = {"size": [height, width], "counts": np.diff(edges, prepend=0, append=flat.size).tolist()}
    if not compressed:
        return runs
    code = mask_api.frPyObjects(runs, height, width)
    return {"size": [height, width], "counts": code["counts"].decode()}


def _disk(image_id: int, x: float, y: float, radius: float) -> np.ndarray:
    width, height = SIZES[image_id]
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def _valid() -> dict:
    """A file with all that a COCO file may have."""
    masks: list[tuple[int, int, list[float], Any, int]] = [
        (3, 5, [2, 3, 10, 8], [[2, 3, 12, 3, 12, 11, 2, 11]], 0),
        (3, 2, [14.5, 2.25, 8, 12], [[14.5, 2.25, 22.5, 2.25, 18, 14], [15, 3, 16, 3, 16, 9]], 0),
        (8, 9, [4, 4, 9, 9], _rle(_disk(8, 8, 8, 4), compressed=False), 0),
        (8, 9, [9, 6, 9, 9], _rle(_disk(8, 13, 10, 4), compressed=True), 0),
        (8, 2, [0, 0, 20, 20], _rle(~_disk(8, 9, 9, 8), compressed=False), 1),
        (5, 5, [1, 1, 13, 21], _rle(_disk(5, 7, 11, 6), compressed=True), 1),
        (5, 5, [3, 3, 0.5, 4], [[3, 3, 3.5, 3, 3.5, 7]], 0),  # too small: left out
        (5, 2, [10, 18, 5, 5], [[10, 18, 15, 18, 15, 23, 10, 23]], 0),
    ]
    return {
        "info": {"description": "made up", "year": 2024},
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (width, height) in SIZES.items()
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "animal"}
            for number, name in ((5, "cat"), (2, "dog"), (9, "caf\u00e9"))
        ],
        "annotations": [
            {
                "id": 100 + index,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": 0.7 * box[2] * box[3],
                "iscrowd": crowd,
                "segmentation": mask,
            }
            for index, (image, category, box, mask, crowd) in enumerate(masks)
        ],
    }


def _nodes(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index of it."""
    entries = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(entries):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from _nodes(value)


def _pick(rng: random.Random, data: dict) -> tuple[Any, Any]:
    """A random place; each depth is as likely, as else nearly all would be numbers of masks."""
    container, key = data, rng.choice(list(data))
    while rng.random() < 0.75:
        inner = container[key]
        if not isinstance(inner, (dict, list)) or not inner:
            break
        container = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
    return container, key


def _retyped(rng: random.Random, value: Any) -> Any:
    choices: list[Callable[[Any], Any]] = [str, lambda v: [v], lambda v: {"value": v}, bool, repr]
    if isinstance(value, (int, float)):
        choices += [float, lambda v: v + 1, lambda v: -v, lambda v: v * 1000, lambda v: v + 0.5]
    if isinstance(value, str):
        choices += [str.upper, lambda v: v[::-1], lambda v: v[:-1], lambda v: v + "0", len]
    if isinstance(value, list):
        choices += [
            lambda v: v[::-1],
            lambda v: v + v,
            lambda v: v[:-1],
            lambda v: dict(enumerate(v)),
        ]
    return rng.choice(choices)(value)


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def _change_tree(rng: random.Random, data: dict) -> None:
    container, key = _pick(rng, data)
    kind = rng.choice(("delete", "rename", "retype", "extreme", "extreme", "swap", "twice", "nest"))
    if kind == "delete":
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        container[rng.choice(KEYS)] = container.pop(key)
    elif kind == "retype":
        container[key] = _retyped(rng, container[key])
    elif kind == "extreme":
        container[key] = copy.deepcopy(rng.choice(EXTREMES))
    elif kind == "swap":
        other, place = rng.choice([(c, k) for c, k in _nodes(data) if k == key])
        container[key], other[place] = (
            copy.deepcopy(other[place]),
            copy.deepcopy(container[key]),
        )
    elif kind == "twice" and isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), copy.deepcopy(container[key]))
    elif kind == "nest":
        container[key] = _nested(rng.choice((1, 50, 800)))


def _change_code(rng: random.Random, data: dict) -> None:
    """Change a run-length code, of either kind."""
    mask = rng.choice([a["segmentation"] for a in data["annotations"] if "counts" in str(a)])
    counts = mask["counts"]
    at = rng.randrange(len(counts))
    if isinstance(counts, str):
        letter = chr(rng.randrange(33, 127))
        mask["counts"] = counts[:at] + rng.choice(("", letter)) + counts[at + rng.randrange(2) :]
    else:
        counts[at : at + rng.randrange(2)] = rng.choice(([], [0], [0, 0], [counts[at] + 1], [-5]))


def _change_text(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    kind = rng.choice(("cut", "flip", "flip", "drop", "insert", "again", "digit"))
    if kind == "cut":
        return text[:at]
    if kind == "flip":
        return text[:at] + bytes([text[at] ^ 1 << rng.randrange(8)]) + text[at + 1 :]
    if kind == "drop":
        return text[:at] + text[at + rng.randrange(1, 9) :]
    if kind == "insert":
        return text[:at] + rng.choice((b"\xff", b"\0", b'"', b"9" * 5000, b"[" * 3000)) + text[at:]
    if kind == "again":
        return text[: at + 20] + text[at:]
    digits = [i for i, byte in enumerate(text) if chr(byte).isdigit()]
    at = rng.choice(digits)
    return text[:at] + str(rng.randrange(10)).encode() + text[at + 1 :]


def mutate(seed: int) -> bytes:
    """The text of a mutated file; one in five is changed as text, the others as a tree."""
    rng = random.Random(seed)
    data = _valid()
    if seed % 5 == 0:
        return _change_text(rng, json.dumps(data, indent=1).encode())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = _change_code if rng.random() < 0.15 else _change_tree
        with suppress(*NOT_POSSIBLE):  # what an earlier change has left is not of every type
            change(rng, data)
    return json.dumps(data).encode()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, size in SIZES.items():
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")
    return folder


def _load(ann_file: Path, images: Path) -> list[dict]:
    """One epoch of what training gets; a data set as a config builds it."""
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="PackDetInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = CocoDataset(
            ann_file=str(ann_file),
            data_prefix={"img": str(images)},
            pipeline=pipeline,
            serialize_data=False,  # it goes through all of Python's objects each time
        )
    return [dataset[index] for index in range(len(dataset))]


def _found(sample: dict) -> list[tuple]:
    """Box, label, crowd and mask of each object."""
    objects = []
    for crowd, group in enumerate(("gt_instances", "ignored_instances")):
        found = getattr(sample["data_samples"], group)
        for box, label, mask in zip(found.bboxes, found.labels, found.masks.masks, strict=True):
            objects.append(
                (tuple(box.tensor.flatten().tolist()), int(label), crowd, mask.tobytes())
            )
    return sorted(objects)


def _expected(data: dict) -> list[list[tuple]]:
    """The same, read from the file in the plainest way."""
    ids = sorted(category["id"] for category in data["categories"])
    images = []
    for image in data["images"]:
        objects = []
        for annotation in data["annotations"]:
            x, y, width, height = annotation["bbox"]
            right, bottom = x + width, y + height
            if (
                annotation["image_id"] != image["id"]
                or annotation.get("ignore")
                or annotation["area"] <= 0
                or min(width, height) < 1
                or min(right, image["width"]) <= max(x, 0)
                or min(bottom, image["height"]) <= max(y, 0)
            ):
                continue
            box = tuple(np.array([x, y, right, bottom], np.float32).tolist())
            mask = _pixels(annotation["segmentation"], image["height"], image["width"])
            crowd = int(bool(annotation.get("iscrowd")))
            objects.append((box, ids.index(annotation["category_id"]), crowd, mask.tobytes()))
        images.append(sorted(objects))
    return images


def _pixels(mask: list | dict, height: int, width: int) -> np.ndarray:
    if isinstance(mask, list):
        parts = [mask_api.frPyObjects([list(map(float, part))], height, width) for part in mask]
        return np.array(mask_api.decode([rle for part in parts for rle in part]).max(axis=2))
    runs = mask["counts"] if isinstance(mask["counts"], list) else _runs(mask["counts"])
    values = np.arange(len(runs)) % 2
    return np.repeat(values, runs).astype(np.uint8).reshape(width, height).T


def _runs(code: str) -> list[int]:
    """Decode a compressed code, number by number."""
    runs: list[int] = []
    position = 0
    while position < len(code):
        value = place = 0
        more = True
        while more:
            bits = ord(code[position]) - 48
            value |= (bits & 31) << 5 * place
            more, position, place = bool(bits & 32), position + 1, place + 1
        if bits & 16:
            value -= 1 << 5 * place
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _outcome(seed: int, text: bytes, folder: Path, images: Path) -> str:
    ann_file = folder / "mutated.json"
    ann_file.write_bytes(text)
    try:
        with time_limit(seed):
            samples = _load(ann_file, images)
    except InputError as error:
        assert ENTRY.search(str(error)), f"mutation {seed} is refused without an entry: {error}"
        str(error).encode()  # can be printed
        return "refused"
    except Exception as error:
        raise AssertionError(f"mutation {seed}: {type(error).__name__}: {error}") from error
    found = [_found(sample) for sample in samples]
    assert found == _expected(json.loads(text)), f"mutation {seed} is read as something else"
    return "accepted"


def test_every_mutation_is_read_as_it_stands_or_refused(tmp_path: Path, images: Path) -> None:
    logging.disable(logging.WARNING)
    try:
        valid = json.dumps(_valid()).encode()
        assert _outcome(-1, valid, tmp_path, images) == "accepted"
        outcomes = Counter(
            _outcome(seed, mutate(seed), tmp_path, images) for seed in range(NUM_MUTATIONS)
        )
    finally:
        logging.disable(logging.NOTSET)
    print(outcomes)
    # Neither a check that refuses all nor mutations that change nothing.
    assert outcomes["accepted"] > NUM_MUTATIONS / 10
    assert outcomes["refused"] > NUM_MUTATIONS / 2
