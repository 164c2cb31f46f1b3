"""Reading every label map once before training, and saying what is wrong with which file."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmbeit3.datasets.checks.files import in_threads, keep
from mmbeit3.datasets.checks.sizes import is_narrow
from mmbeit3.datasets.image_files import (
    FOLLOW_STORED,
    ImageFile,
    Loader,
    read_size,
    unreadable,
)
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.regular_files import refuse_endless

IGNORED = 255
MAX_EXAMPLES, MAX_VALUES = 3, 2  # with title and cure five lines
INDEX_MODES = ("L", "P", "1")  # Pillow's names of gray, palette and two-level pictures of 8 bits
SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L")
MOST = 0.5  # share of the pixels at which an ignored value is remarked on
# Share of the maps from which on value 0 may be what is left between the objects: in ADE20K all of
# 32 maps have it, and 15 the commonest class, wall.
ALMOST_ALL = 0.9
# Words by which a first class says that it is what value 0 usually is.
REST = {"background", "bg", "other", "others", "unlabeled", "void", "ignore"}
REST |= {"ignored", "none", "nothing", "unknown", "unclassified", "empty", "rest"}

Pair = tuple[str, str]
"""The paths of an image and of its label map."""


@dataclass(frozen=True)
class LabelCounts:
    """What the label maps of a data set hold.

    Attributes:
        num_maps: How many there are.
        pixels: (256,) pixels of each value.
        maps: (256,) maps with each value.
        examples: For each value that occurs, the map with most of its pixels and their number.
        narrow: The images that :func:`mmbeit3.datasets.checks.sizes.check_sizes` is to look at.
        turned: The images that :func:`mmbeit3.datasets.image_files.warn_of_turned` is to name.
    """

    num_maps: int
    pixels: np.ndarray
    maps: np.ndarray
    examples: dict[int, tuple[str, int]]
    narrow: list[ImageFile] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)

    def has(self, value: int) -> bool:
        """Whether the value occurs."""
        return bool(self.pixels[value])

    def share(self, value: int) -> float:
        """The value's share of all pixels."""
        return float(self.pixels[value] / max(self.pixels.sum(), 1))


def count_labels(pairs: Sequence[Pair], source: str, loader: Loader | None = None) -> LabelCounts:
    """Read every label map and the size of its image.

    The result is kept until a file changes, see :func:`mmbeit3.datasets.checks.files.keep`.

    Args:
        pairs: Paths of images and of their label maps.
        source: What to call the set in messages.
        loader: The transform that loads the images, see
            :func:`mmbeit3.datasets.image_files.check_image_files`. Defaults to None.

    Raises:
        InputError: A file cannot be read or is cut off, a map has other than 8 bits or no indices,
            or image and map differ in size, turned as the transform that loads the image does it.
    """
    paths = [path for pair in pairs for path in pair]
    kind = f"labels narrow turned {loader}"
    found = keep(kind, paths, source, lambda: _to_json(_count(pairs, source, loader)))
    return LabelCounts(
        found["num_maps"],
        np.array(found["pixels"]),
        np.array(found["maps"]),
        {int(value): tuple(example) for value, example in found["examples"].items()},
        [ImageFile(*file) for file in found["narrow"]],
        found["turned"],
    )


def _to_json(counts: LabelCounts) -> dict:
    return {
        "num_maps": counts.num_maps,
        "pixels": counts.pixels.tolist(),
        "maps": counts.maps.tolist(),
        "examples": counts.examples,
        "narrow": [list(file) for file in counts.narrow],
        "turned": counts.turned,
    }


def check_labels(
    counts: LabelCounts,
    classes: Sequence[str],
    reduce_zero_label: bool | None,
    source: str,
    training: bool = True,
) -> None:
    """Check label values against the classes, and ``reduce_zero_label`` against the values.

    With N classes the values are 0..N-1, or 1..N and 0 for unlabeled pixels where
    ``reduce_zero_label`` is set; 255 is ignored in both. The setting is wrong

    - where it is off and the value N occurs: the maps count from 1, or 0 is a class without a name;
    - where it is on, the value N never occurs and either 0..N-1 all do or both 0 and 255: the maps
      count from 0. On data to test with, which may lack a class, this is a warning only;
    - where nobody has set it and training data look as if 0 meant unlabeled: it occurs in at least
      90 % of the maps (of two or more) and 255 in none, the last class never does, and the first is
      not named background or the like. The maps cannot tell, so a setting is asked for.

    Nothing can be learned where all pixels are ignored, or all but those of one class, as with
    pictures in black and white, whose 255 is not meant as ignored. Remarked on, as they may be
    meant: more than half of the pixels ignored as unlabeled, and classes of which the training
    data have no pixel.

    Args:
        counts: What the maps hold.
        classes: The names of the classes.
        reduce_zero_label: Whether 0 is taken for unlabeled and the classes count from 1; None is
            False that nobody has decided on.
        source: What to call the set in messages.
        training: Whether the set is there to train on. Defaults to True.

    Raises:
        InputError: See above.
    """
    num_classes = len(classes)
    first = int(bool(reduce_zero_label))
    last = first + num_classes - 1
    outside = [value for value in range(last + 1, IGNORED) if counts.has(value)]
    if outside:
        hint = ""
        if outside == [num_classes]:  # hence reduce_zero_label is off
            hint = _counted_from_one(counts, num_classes)
        ignored = "0 or 255" if reduce_zero_label else "255"
        expected = f"{first}..{last}, or {ignored} to be ignored: name their classes in the class "
        expected += "list, or replace them in the label maps"
        raise InputError(_outside(counts, outside, expected, num_classes, source) + hint)
    if reduce_zero_label:
        _check_reduction(counts, classes, source, training)
    absent = [name for index, name in enumerate(classes, first) if not counts.has(index)]
    _check_something_to_learn(counts, classes, absent, source, training)
    if not (training and absent):
        return
    text = f"{source} has no pixel of {len(absent)} of the {num_classes} classes: {listed(absent)}"
    if not reduce_zero_label and _may_be_shifted(counts, classes):
        doubt = _doubt(counts, classes, source)
        if reduce_zero_label is None and not counts.has(IGNORED):
            raise InputError(doubt)
        text += f". {doubt}"
    print_log(text, "current", logging.WARNING)


def check_ade20k_labels(
    counts: LabelCounts, classes: Sequence[str], reduce_zero_label: bool, source: str
) -> None:
    """Check label values of ADE20K, whose maps hold 1..150 for the classes and 0 for 'other'.

    Maps that somebody has renumbered (0..149, 255 for 'other') are told apart by the value 255,
    which the official ones never have.

    Args:
        counts: What the maps hold.
        classes: The names of the classes in the order of the official maps.
        reduce_zero_label: As for the data set; it must be on for official maps, off for renumbered.
        source: What to call the set in messages.

    Raises:
        InputError: A value is none of the classes, or ``reduce_zero_label`` is wrong.
    """
    num_classes = len(classes)
    if not reduce_zero_label and counts.has(0) and not counts.has(IGNORED):
        raise InputError(
            f"reduce_zero_label is False, but in {source} value 0 occurs in {counts.maps[0]:,} of "
            f"{counts.num_maps:,} label maps and 255 in none: these are the official maps, where "
            f"0 is 'other' and the classes are 1..{num_classes}. Every class would be learned "
            "under its neighbor's name: leave reduce_zero_label out, or set it to True"
        )
    outside = [value for value in range(num_classes + 1, 256) if counts.has(value)]
    if reduce_zero_label and outside:
        hint = ""
        if outside == [IGNORED]:
            hint = (
                f"\nIf the maps were renumbered to 0..{num_classes - 1} with 255 for 'other', set "
                "reduce_zero_label=False; else unpack the official archive anew"
            )
        raise InputError(_outside(counts, outside, f"0..{num_classes}", num_classes, source) + hint)
    # The official sets have every class; a part of them need not, and that is no mistake.
    check_labels(counts, classes, reduce_zero_label, source, training=False)


def _check_reduction(
    counts: LabelCounts, classes: Sequence[str], source: str, training: bool
) -> None:
    num_classes = len(classes)
    signs = ""
    if all(map(counts.has, range(num_classes))):
        signs = f"the values 0..{num_classes - 1} all occur"
    elif counts.has(0) and counts.has(IGNORED):
        signs = "both 0 and 255 occur"
    if signs and not counts.has(num_classes):
        text = (
            f"reduce_zero_label is True, but in {source} {signs} "
            f"and {num_classes} never does: the {num_classes} classes seem to be numbered from 0, "
            f"and 0 ({counts.share(0):.0%} of the pixels) would be ignored. Set "
            "reduce_zero_label=False; or, if 0 does mean unlabeled and there is just no "
            f"{classes[-1]!r}, check_labels=False"
        )
        if training:
            raise InputError(text)
        print_log(text, "current", logging.WARNING)
    elif counts.share(0) > MOST:
        text = (
            f"reduce_zero_label is True: {counts.share(0):.0%} of the pixels of {source} have the "
            "value 0 and are ignored. If 0 is a class, such as background, set it to False and "
            "name that class first"
        )
        print_log(text, "current", logging.WARNING)


def _may_be_shifted(counts: LabelCounts, classes: Sequence[str]) -> bool:
    """Whether 0 may mean unlabeled, so that every class would learn under its neighbor's name."""
    words = set(re.findall(r"[a-z]+", classes[0].lower()))
    in_almost_all = counts.maps[0] >= ALMOST_ALL * counts.num_maps
    last_is_absent = not counts.has(len(classes) - 1)
    return counts.num_maps > 1 and in_almost_all and last_is_absent and not words & REST


def _doubt(counts: LabelCounts, classes: Sequence[str], source: str) -> str:
    last = len(classes) - 1
    return (
        f"In {source} value 0 occurs in {counts.maps[0]:,} of {counts.num_maps:,} label maps "
        f"({counts.share(0):.1%} of the pixels), and {last}, {classes[-1]!r}, in none. If 0 means "
        f"unlabeled and 1 is {classes[0]!r}, every class would be learned under its neighbor's "
        f"name: set reduce_zero_label=True in the data set. If 0 is {classes[0]!r}, set "
        "reduce_zero_label=False"
    )


def _check_something_to_learn(
    counts: LabelCounts, classes: Sequence[str], absent: Sequence[str], source: str, training: bool
) -> None:
    hint = "0 is ignored with reduce_zero_label=True"
    if counts.has(IGNORED):
        hint = (
            "If the label maps are pictures in black and white, replace 255 by the number of its "
            "class"
        )
    if len(absent) == len(classes):
        raise InputError(
            f"every pixel of {source} is ignored, none is of the {len(classes)} classes. {hint}"
        )
    if training and counts.has(IGNORED) and 1 < len(classes) == len(absent) + 1:
        present = next(name for name in classes if name not in absent)
        raise InputError(
            f"all pixels of {source} are of the class {present!r} or ignored (255, "
            f"{counts.share(IGNORED):.0%} of them): there is nothing to tell apart. {hint}"
        )


def _counted_from_one(counts: LabelCounts, num_classes: int) -> str:
    if not counts.has(0):
        return "\nNo map has the value 0: the classes count from 1. Set reduce_zero_label=True"
    return (
        f"\nThe values run from 0 to {num_classes}, which is {num_classes + 1} of them. If 0 means "
        "unlabeled, set reduce_zero_label=True; if it is a class, name it first in the class list"
    )


def _outside(
    counts: LabelCounts, values: list[int], expected: str, num_classes: int, source: str
) -> str:
    lines = [f"{source} has label values outside the {num_classes} classes: {listed(values)}"]
    for value in values[:MAX_VALUES]:
        path, pixels = counts.examples[value]
        lines.append(
            f"value {value}: {counts.pixels[value]:,} pixels in {counts.maps[value]:,} label maps, "
            f"most of them ({pixels:,}) in {path}"
        )
    if len(values) > MAX_VALUES:
        lines.append(f"... and {len(values) - MAX_VALUES} more values")
    return "\n  ".join(lines) + f"\nExpected {expected}"


def _count(pairs: Sequence[Pair], source: str, loader: Loader | None) -> LabelCounts:
    pixels, maps = np.zeros(256, np.int64), np.zeros(256, np.int64)
    examples: dict[int, tuple[str, int]] = {}
    problems = []
    narrow, turned = [], []
    results = in_threads(
        partial(_inspect, loader=loader), pairs, f"checking the label maps of {source}"
    )
    for (image, path), result in zip(pairs, results, strict=True):
        if isinstance(result, str):
            problems.append(result)
            continue
        histogram, size, is_turned = result
        if is_narrow(*size):
            narrow.append(ImageFile(image, *size))
        if is_turned:
            turned.append(image)
        pixels += histogram
        maps += histogram > 0
        for value in np.flatnonzero(histogram).tolist():
            count = int(histogram[value])
            if count > examples.get(value, ("", 0))[1]:
                examples[value] = (path, count)
    if problems:
        lines = [f"{source}: {len(problems)} of {len(pairs)} pairs of image and label map are bad"]
        lines += problems[:MAX_EXAMPLES]
        if len(problems) > MAX_EXAMPLES:
            lines.append(f"... and {len(problems) - MAX_EXAMPLES} more")
        raise InputError("\n  ".join(lines))
    return LabelCounts(len(pairs), pixels, maps, examples, narrow, turned)


def read_label_map(path: str | Path) -> np.ndarray:
    """Read the values of a label map, (H, W).

    Raises:
        InputError: The file cannot be read or is cut off, or has other than 8 bits or no indices.
    """
    try:
        refuse_endless(path)
        with Image.open(path) as file:
            problem = _format_problem(file)
            if problem is None:
                file.verify()  # the sums of the chunks, which decoding leaves out
        if problem is None:
            with Image.open(path) as file:
                return np.asarray(file)
    except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
        raise InputError(f"{path} {unreadable(error)}") from error
    raise InputError(f"{path} {problem}")


def _inspect(pair: Pair, loader: Loader | None) -> tuple[np.ndarray, tuple[int, int], bool] | str:
    """What a label map holds, or what is wrong with it or its image.

    Returns:
        The (256,) histogram, the size, and :attr:`mmbeit3.datasets.image_files.Size.is_turned`.
    """
    image, label_map = pair
    try:
        labels = read_label_map(label_map)
    except InputError as error:
        return str(error)
    try:
        size = read_size(image, loader)
    except Exception as error:
        return f"{image} {unreadable(error)}"
    found, (width, height) = labels.shape[::-1], size.loaded
    if found != size.loaded:
        text = f"{label_map} is {found[0]} x {found[1]}, but {image} is {width} x {height}"
        if found != size.stored:
            return f"{text}: give the label map of this image, or one of its size"
        text += " when its EXIF orientation is followed: turn the label map too, or, "
        return text + FOLLOW_STORED
    if 1 in found:
        return f"{label_map} is {found[0]} x {found[1]}; mmseg loads no map of one row or column"
    return np.bincount(labels.reshape(-1), minlength=256), found, size.is_turned


def _format_problem(file: Image.Image) -> str | None:
    if file.format != "PNG":
        return f"is a {file.format} file; expected PNG, which keeps label values exact"
    if file.mode in INDEX_MODES:
        return None
    if file.mode in SIXTEEN_BIT_MODES:
        return "has 16 bits a pixel; expected 8: save it with values 0..254, and 255 for ignored"
    return (
        f"has colors or transparency (mode {file.mode}); expected one index a pixel, 8-bit gray "
        "or palette: replace every color by the number of its class"
    )
