"""The generated shapes one by one, in folders of classes such as ``red_disk``."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mmbeit3.datasets.shape_captions import describe
from mmbeit3.datasets.shapes import (
    CLASSES,
    DESCRIPTION,
    JPEG_QUALITY,
    check_place,
    draw_combinations,
    draw_sample,
)
from mmbeit3.utils import InputError

MARGIN = 0.15  # around the box of an object, by its longer side
UNSEEN, ALL_NAMES, UNSEEN_NAMES, ABOUT = "unseen", "all.txt", "unseen.txt", "crops.json"


def make_shape_crops(
    out_dir: str | Path,
    num_train: int = 2000,
    num_val: int = 400,
    size: int = 128,
    seed: int = 0,
    held_out: int = 8,
    crop_size: int = 64,
    progress: bool = False,
) -> Path:
    """Cut out the objects of the pictures of :func:`mmbeit3.datasets.make_shapes`.

    A class is a color and a shape; objects whose color lies between two names are left out. Layout:
    ``{train,val}/red_disk/*.jpg``; of the classes that are held out there are none in either, those
    of the held-out pictures are in ``unseen/``. ``unseen.txt`` names these classes, ``all.txt``
    all.

    Args:
        out_dir: Folder to create. One that an earlier run made is replaced.
        num_train: Training pictures, of some objects each. Defaults to 2000.
        num_val: Held-out pictures. Defaults to 400.
        size: Width and height of the pictures. Defaults to 128.
        seed: As of the pictures. Defaults to 0.
        held_out: How many classes training does not see. Defaults to 8.
        crop_size: Width and height of the crops. Defaults to 64.
        progress: Whether to show a progress bar. Defaults to False.

    Returns:
        The folder.

    Raises:
        InputError: A number is out of range, or ``out_dir`` holds something else.
    """
    out_dir = Path(out_dir).resolve()
    check_place(out_dir, out_dir / ABOUT)
    if min(num_train, num_val, crop_size) < 1:
        raise InputError(
            f"there are {num_train} training and {num_val} held-out pictures and crops of "
            f"{crop_size} pixels; expected 1 or more of each"
        )
    unseen = {f"{color}_{shape}" for color, shape in draw_combinations(seed, held_out)}
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    counts: dict[str, dict[str, int]] = {}
    for number, (split, count) in enumerate((("train", num_train), ("val", num_val))):
        known = unseen | counts["train"].keys() if counts else None
        counts[split] = defaultdict(int)
        for index in track(range(count), f"drawing {split}", disable=not progress):
            rng = np.random.default_rng([seed, number, index])
            for name, crop in _crops(rng, size, crop_size):
                if (known is None and name in unseen) or (known is not None and name not in known):
                    continue
                place = UNSEEN if name in unseen else split
                _write(partial / place / name / f"{index:06d}_{counts[split][name]}.jpg", crop)
                counts[split][name] += 1
    about = {"info": {"description": DESCRIPTION, "seed": seed, "size": size}}
    (partial / ABOUT).write_text(json.dumps(about))
    for file, names in ((ALL_NAMES, {*counts["train"], *unseen}), (UNSEEN_NAMES, unseen)):
        lines = [f"{name}\t{name.replace('_', ' ')}" for name in sorted(names)]
        (partial / file).write_text("".join(f"{line}\n" for line in lines))
    if out_dir.exists():
        shutil.rmtree(out_dir)
    partial.rename(out_dir)
    return out_dir


def _crops(rng: np.random.Generator, size: int, crop_size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Folder and pixels, (crop_size, crop_size, 3) RGB, of each object whose color has a name."""
    drawing = draw_sample(rng, size)
    objects = zip(drawing.masks, drawing.labels, drawing.appearances, strict=True)
    for mask, label, appearance in objects:
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        thing = describe(CLASSES[label], appearance, (x, y, width, height), int(mask.sum()), size)
        if thing.color is None:
            continue
        half = round((0.5 + MARGIN) * max(width, height))
        image = cv2.copyMakeBorder(drawing.image, half, half, half, half, cv2.BORDER_REPLICATE)
        left, top = x + width // 2, y + height // 2  # the border moves the center by half a side
        crop = image[top : top + 2 * half, left : left + 2 * half]
        crop = cv2.resize(crop, (crop_size, crop_size), interpolation=cv2.INTER_AREA)
        yield f"{thing.color}_{thing.shape}", crop


def _write(path: Path, crop: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
