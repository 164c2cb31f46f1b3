"""Labels in memory, between the formats of files: images, the objects in them, their classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path, PurePosixPath
from typing import Any

from mmbeit3.datasets.checks.coco import MAX_PIXELS, Report, is_text
from mmbeit3.datasets.checks.files import in_threads
from mmbeit3.datasets.image_files import read_size, unreadable
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_folders import find_images

MAX_SIDE = 2**18  # pixels; a size that is only said must not take all of the memory
Box = tuple[float, float, float, float]
"""x1 y1 x2 y2 in pixels; the left upper corner of the image is 0 0, the right lower its size."""


@dataclass
class LabeledObject:
    """An object.

    Attributes:
        name: Its class.
        box: Around it.
        mask: As COCO has it: polygons, flat lists of x and y whose union is the object, or an RLE
            of the whole image; None if there is none.
        score: In [0, 1], of a prediction; None if there is none.
        is_crowd: Whether it stands for several objects that nobody told apart.
    """

    name: str
    box: Box
    mask: list[list[float]] | dict[str, Any] | None = None
    score: float | None = None
    is_crowd: bool = False


@dataclass
class LabeledImage:
    """An image and its objects.

    Attributes:
        name: The path of its file below the folder of images, with forward slashes.
        width, height: Its size in pixels.
        objects: What is in it.
        where: The label file, for messages.
    """

    name: str
    width: int
    height: int
    objects: list[LabeledObject] = field(default_factory=list)
    where: str = ""


@dataclass
class Labels:
    """The labels of a data set, or what a model has found.

    Attributes:
        classes: Names of all classes, also of those without an object.
        images: All images, also those without an object.
        root: The folder of the image files; None where it is not known.
        notes: What a person should know of the reading.
        are_predictions: Whether a model has made them.
        source: What they were converted from, see
            :mod:`mmbeit3.datasets.label_formats.staleness`; None if nobody needs to know.
    """

    classes: list[str]
    images: list[LabeledImage]
    root: Path | None = None
    notes: list[str] = field(default_factory=list)
    are_predictions: bool = False
    source: dict[str, str] | None = None

    def objects(self) -> Iterator[LabeledObject]:
        """Yield the objects of all images."""
        for image in self.images:
            yield from image.objects


class Notes:
    """Counts things of a kind, to say each kind once."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, text: str, example: str) -> None:
        """Count a thing; ``text`` says what it is, in the plural, and what becomes of it."""
        self._found.setdefault(text, []).append(example)

    def lines(self) -> list[str]:
        """A line for each kind: the text, the number, and the first examples."""
        return [
            f"{text}: {len(examples)} ({listed(dict.fromkeys(examples), 3)})"
            for text, examples in self._found.items()
        ]


class ImageFolder:
    """Matches labels with image files: with none where no folder is known.

    Args:
        root: The folder, searched recursively, or None.
        report: Takes sizes that differ, and images that have labels twice.
        notes: Takes labels without an image, and counts images without labels.
    """

    def __init__(self, root: Path | None, report: Report, notes: Notes) -> None:
        self.root, self._report, self._notes = root, report, notes
        self._taken: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        if root is not None:
            paths = find_images(root)
            names = [path.relative_to(root).as_posix() for path in paths]
            self.sizes = dict(zip(names, read_sizes(paths, report), strict=True))
        self._stems: dict[str, list[str]] = {}
        for name in self.sizes:
            self._stems.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)

    def take(
        self, where: str, names: Sequence[str], size: tuple[int, int] | None, is_sure: bool = False
    ) -> LabeledImage | None:
        """Find the image of labels.

        Args:
            where: The label file, and the place in it where it has several images.
            names: What the image may be called, the likeliest first; one without a suffix, or of
                another one, stands for the image of this stem.
            size: Its width and height by the labels; None if they do not say.
            is_sure: Whether further labels of an image are of the same. Defaults to False.

        Returns:
            The image without objects; None if there is none, which is noted or reported.
        """
        names = [clean_name(name) for name in names if name]
        if self.root is None:
            found = names[0] if names else None
            if found is None or is_outside(found):
                self._report.error(
                    f"{where}: the image is called {found!r}, expected a name below a folder of "
                    "images; name that folder by images"
                )
                return None
        else:
            found = self._find(names)
            if found is None:
                self._notes.add("labels without an image, which are left out", where)
                return None
        if not is_sure and self._taken.setdefault(found, where) != where:
            self._report.error(f"{where}: {self._taken[found]} labels the image {found}, too")
            return None
        real = self.sizes.get(found)
        if real and size and real != size:
            self._report.error(
                f"{where}: the image is {size[0]} x {size[1]}, but {self.root}/{found} is "
                f"{real[0]} x {real[1]} (width x height)"
            )
            return None
        if not (real or size):
            self._report.error(
                f"{where}: the size of {found} is not known; name its folder by images"
            )
            return None
        width, height = real or size or (0, 0)
        if problem := _size_problem(width, height):
            self._report.error(f"{where}: {problem}")
            return None
        return LabeledImage(found, width, height, where=where)

    def _find(self, names: Iterable[str]) -> str | None:
        for name in names:
            if name in self.sizes:
                return name
        for name in names:
            stem = str(PurePosixPath(name).with_suffix(""))
            for same in (self._stems.get(stem, []), self._stems.get(name, [])):
                if len(same) == 1:
                    return same[0]
        return None

    def rest(self) -> list[LabeledImage]:
        """The images without labels, which are empty."""
        rest = [name for name in self.sizes if name not in self._taken]
        for name in rest:
            self._notes.add("images without labels, which count as empty", name)
        return [LabeledImage(name, *self.sizes[name]) for name in rest]


@dataclass
class Source:
    """What a format reads.

    Attributes:
        path: A file or a folder.
        images: The folder of the images; None where the format says it, or nobody knows.
        split: The part of the data set; None for all.
        score_thr: Least score of predictions; None if none was given.
        report: Takes errors.
        notes: Takes what else a person should know.
    """

    path: Path
    images: Path | None = None
    split: str | None = None
    score_thr: float | None = None
    report: Report = field(default_factory=Report)
    notes: Notes = field(default_factory=Notes)

    def folder(self, usual: Path | None = None) -> ImageFolder:
        """The images: of the folder that was given, else of the usual one of the format."""
        return ImageFolder(self.images or usual, self.report, self.notes)


def read_sizes(paths: Sequence[Path], report: Report) -> Iterator[tuple[int, int]]:
    """Width and height of image files, as training loads them.

    Args:
        paths: The files.
        report: Takes those that cannot be read; their size is 0 x 0.
    """

    def size(path: Path) -> tuple[int, int] | str:
        try:
            return read_size(str(path)).loaded
        except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
            return f"{path} {unreadable(error)}"

    for found in in_threads(size, paths, "reading the sizes of images"):
        if isinstance(found, str):
            report.error(found)
        yield (0, 0) if isinstance(found, str) else found


def number(value: Any) -> float:
    """A number of a file; nan, which :func:`check_labels` reports, if it is none."""
    try:
        return nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return nan


def clean_name(name: str) -> str:
    """A path with forward slashes, without needless parts."""
    return str(PurePosixPath(name.replace("\\", "/").strip()))


def is_outside(name: str) -> bool:
    """Whether a path leads out of the folder that it should be below, or is none."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = name[1:2] == ":"
    return path.is_absolute() or drive or ".." in path.parts or name == "." or not is_text(name)


def check_labels(labels: Labels, report: Report) -> None:
    """Report objects that no format could hold, and names of files that lead elsewhere."""
    for image in labels.images:
        where = image.where or image.name
        if is_outside(image.name):
            report.error(f"{where}: the image {image.name!r} lies outside of its folder")
        if problem := _size_problem(image.width, image.height):
            report.error(f"{where}: {problem}")
            continue
        for number, found in enumerate(image.objects, 1):
            if problem := object_problem(found, image):
                report.error(f"{where}, object {number}: {problem}")


def _size_problem(width: int, height: int) -> str | None:
    if min(width, height) > 0 and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS:
        return None
    return (
        f"the size of the image is {width} x {height}, expected sides of 1 to {MAX_SIDE:,} pixels"
    )


def object_problem(found: LabeledObject, image: LabeledImage) -> str | None:
    """What keeps an object from being one of an image; None if nothing does."""
    if not is_text(found.name) or not found.name.strip():
        return f"its class is {found.name!r}, expected a name"
    polygons = found.mask if isinstance(found.mask, list) else []
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        return "a polygon has fewer than 3 points"
    values = [*found.box, *(value for polygon in polygons for value in polygon)]
    if not all(map(isfinite, values)):
        return "a coordinate is no finite number"
    if found.score is not None and not 0 <= found.score <= 1:
        return f"its score is {found.score}, expected 0 to 1"
    x1, y1, x2, y2 = found.box
    if x2 < x1 or y2 < y1:
        return f"its box {_short(found.box)} (x1 y1 x2 y2) has a negative side"
    reach = max(image.width, image.height)
    if min(values) < -reach or max(values) > 2 * reach:
        box = _short(found.box)
        return f"it reaches far beyond its image of {image.width} x {image.height}: box {box}"
    return None


def _short(box: Box) -> str:
    return " ".join(f"{value:g}" for value in box)


def box_of(polygons: Iterable[Sequence[float]]) -> Box:
    """The box around polygons, flat lists of x and y."""
    values = list(polygons)
    xs = [x for polygon in values for x in polygon[::2]]
    ys = [y for polygon in values for y in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def label_names(images: Sequence[LabeledImage], suffix: str) -> list[str]:
    """The name of each image with another suffix.

    Raises:
        InputError: Two images would have the same.
    """
    seen: dict[str, str] = {}
    for image in images:
        name = str(PurePosixPath(image.name).with_suffix(suffix))
        other = seen.setdefault(name.lower(), image.name)
        if other != image.name:
            raise InputError(
                f"{other} and {image.name} would both have their labels in {name}: rename one, or "
                "take a format of one file for all"
            )
    return [str(PurePosixPath(image.name).with_suffix(suffix)) for image in images]
