"""Damaged files of every format are read, or refused with a message: no other error."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from mmbeit3.datasets.label_formats import FORMATS, read_labels, write_labels
from mmbeit3.datasets.label_formats.labels import Labels
from mmbeit3.utils import InputError

WORDS = (
    "null",
    "[]",
    "{}",
    '""',
    "-1",
    "1e999",
    "NaN",
    "true",
    "0",
    "99999999999999999999",
    "<a/>",
)
SUFFIX = {"coco": ".json", "csv": ".csv", "label-studio": ".json", "cvat": ".xml"}
READABLE = [name for name, kind in FORMATS.items() if kind.read and kind.write]


def mutated(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    kind = rng.randrange(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + bytes([rng.randrange(256)]) + content[start + 1 :]
    if kind == 2:
        end = min(len(content), start + rng.randrange(1, 40))
        return content[:start] + content[end:]
    marks = [i for i, byte in enumerate(content) if byte in b',:;<>" []{}=\n']
    first = rng.randrange(len(marks) - 1)
    here, there = marks[first], marks[min(first + rng.randrange(1, 3), len(marks) - 1)]
    word = rng.choice(WORDS).encode()
    return content[: here + 1] + word + content[there:]


@pytest.mark.parametrize("name", READABLE)
def test_damaged_files(name: str, labels: Labels, tmp_path: Path) -> None:
    place = tmp_path / f"out{SUFFIX.get(name, '')}"
    write_labels(labels, place, name)
    files = (
        [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file())
    )
    rng = random.Random(name)
    for _ in range(60):
        file = rng.choice(files)
        whole = file.read_bytes()
        if not whole:
            continue
        file.write_bytes(mutated(whole, rng))
        for images in (labels.root, None)[: 1 + (name not in ("yolo", "labelme"))]:
            with suppress(InputError):
                read_labels(place, name, images=images)
        file.write_bytes(whole)
    assert list(read_labels(place, name, images=labels.root).objects())
