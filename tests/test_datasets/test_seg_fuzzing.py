"""200 mutations of a set of label maps: each is read as the files hold it, or refused by naming it.

"As the files hold it": the classes that the pipeline hands to training are the pixels of the
mutated file; where its bytes were damaged, they must be those of the file before.
"""

from __future__ import annotations

import io
import logging
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.registry import DefaultScope
from PIL import Image

from mmbeit3.datasets import SegFolderDataset
from mmbeit3.utils import InputError

from .fuzzing import time_limit

NUM_MUTATIONS = 200
CLASSES = ("road", "sky", "car")
SIZES = {"a": (24, 16), "b": (20, 20), "c": (16, 24)}  # (width, height)
FILE = re.compile(r"\b[abc](-2)?\.(png|jpg)")  # what a refusal names


def _labels(name: str) -> np.ndarray:
    width, height = SIZES[name]
    rng = np.random.default_rng(ord(name))
    labels = rng.integers(0, len(CLASSES), (height, width), np.uint8)
    labels[:2] = 255
    return labels


def _png(labels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


def _palette(labels: np.ndarray) -> bytes:
    image = Image.fromarray(labels)
    image.putpalette(list(range(256)) * 3)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _with_value(rng: random.Random, labels: np.ndarray) -> np.ndarray:
    changed = labels.copy()
    row, column = rng.randrange(labels.shape[0]), rng.randrange(labels.shape[1])
    changed[row, column] = rng.choice((0, 1, 2, 3, 4, 100, 254, 255))
    return changed


# Files that are written anew, with what they then hold.
REWRITTEN: dict[str, Callable[[random.Random, np.ndarray], bytes]] = {
    "value": lambda rng, labels: _png(_with_value(rng, labels)),
    "palette": lambda rng, labels: _palette(labels),
    "color": lambda rng, labels: _png(np.stack([labels] * 3, axis=2)),
    "transparent": lambda rng, labels: _png(np.stack([labels] * 4, axis=2)),
    "16 bits": lambda rng, labels: _png(labels.astype(np.uint16)),
    "two levels": lambda rng, labels: _png(labels > 0),
    "turned": lambda rng, labels: _png(np.ascontiguousarray(labels.T)),
    "smaller": lambda rng, labels: _png(labels[:-1]),
    "wider": lambda rng, labels: _png(np.pad(labels, ((0, 0), (0, rng.randrange(1, 9))))),
    "one value": lambda rng, labels: _png(np.full_like(labels, rng.randrange(256))),
    "jpeg": lambda rng, labels: _png(labels, format="JPEG"),
    "optimized": lambda rng, labels: _png(labels, optimize=True),
}


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _flip(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _zero(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes(len(content[at : at + 9])) + content[at + 9 :]


def _add(rng: random.Random, content: bytes) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 99))


DAMAGES = (_cut, _flip, _flip, _flip, _zero, _add)


def _move(rng: random.Random, path: Path) -> None:
    """Remove or rename a file, or put something else in its place."""
    kind = rng.choice(("remove", "rename", "upper", "folder", "empty", "link", "twice"))
    content = path.read_bytes()
    if kind == "twice":
        path.with_name(path.stem + "-2" + path.suffix).write_bytes(content)
        return
    path.unlink()
    if kind == "rename":
        path.with_name(rng.choice(("z", "\u732b", "a b", "A")) + path.suffix).write_bytes(content)
    elif kind == "upper":
        path.with_suffix(path.suffix.upper()).write_bytes(content)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "link":
        path.symlink_to("nowhere")


def mutate(seed: int, root: Path) -> dict[str, np.ndarray]:
    """Write a mutated set.

    Returns:
        The pixels that each image must have if the set is accepted.
    """
    rng = random.Random(seed)
    truth = {}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    for name, size in SIZES.items():
        Image.new("RGB", size).save(root / "images" / f"{name}.jpg")
        truth[name] = _labels(name)
        (root / "masks" / f"{name}.png").write_bytes(_png(truth[name]))
    name = rng.choice(list(SIZES))
    path = root / "masks" / f"{name}.png"
    kind = seed % 4
    if kind == 0:
        content = REWRITTEN[rng.choice(list(REWRITTEN))](rng, truth[name])
        path.write_bytes(content)
        truth[name] = np.asarray(Image.open(path)).astype(np.uint8)
    elif kind == 3:
        _move(rng, rng.choice((path, root / "images" / f"{name}.jpg")))
    else:
        path.write_bytes(rng.choice(DAMAGES)(rng, path.read_bytes()))
    return truth


def _load(root: Path) -> dict[str, np.ndarray]:
    """What training gets of each image, by its name."""
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="PackSegInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = SegFolderDataset(
            classes_file="classes.txt",
            data_root=str(root),
            data_prefix=dict(img_path="images", seg_map_path="masks"),
            pipeline=pipeline,
            serialize_data=False,
        )
    samples = [dataset[index]["data_samples"] for index in range(len(dataset))]
    return {Path(s.img_path).stem: s.gt_sem_seg.data[0].numpy() for s in samples}


def _outcome(seed: int, root: Path) -> str:
    truth = mutate(seed, root)
    try:
        with time_limit(seed):
            found = _load(root)
    except InputError as error:
        assert FILE.search(str(error)), f"mutation {seed} is refused without a file: {error}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"mutation {seed}: {type(error).__name__}: {error}") from error
    for name, labels in found.items():
        assert np.array_equal(labels, truth[name]), f"mutation {seed} changes {name}"
    assert all(set(np.unique(labels)) <= {0, 1, 2, 255} for labels in found.values())
    return "accepted"


def test_every_mutation_is_read_as_it_stands_or_refused(tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    try:
        outcomes = Counter(_outcome(seed, tmp_path / str(seed)) for seed in range(NUM_MUTATIONS))
    finally:
        logging.disable(logging.NOTSET)
    print(outcomes)
    assert outcomes["accepted"] > NUM_MUTATIONS / 20
    assert outcomes["refused"] > NUM_MUTATIONS / 2
