"""Reading COCO annotation files and saying which entry is wrong, before training starts."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import reprlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmbeit3.datasets.checks.coco_meaning import Doubt, find_doubts
from mmbeit3.datasets.checks.rle import CHUNK, read_codes
from mmbeit3.datasets.json_stream import TwiceError, stream_entries, unique_keys
from mmbeit3.utils import InputError
from mmbeit3.utils.read_once import read_once
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import read_text

MAX_EXAMPLES = 10
ABSENT_CURE = "check data_root and ann_file"
MAX_SHOWN = 3  # of the errors that end a run
MAX_ID = 2**63  # ids become 64-bit integers in evaluation
MAX_PIXELS = 2**30  # OpenCV reads no larger image
NUMBERS = {int, float}  # what JSON's numbers become; not bool

_SHORT = reprlib.Repr()  # what stands in a file may be of any length and depth
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


@dataclass
class Report:
    """What ``check_coco`` found: counts, and the first few of each in words.

    Errors make the file unusable. Warnings concern entries that training leaves out or that look
    like a mistake; the official COCO files have a few.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    num_errors: int = 0
    num_warnings: int = 0
    max_examples: int = MAX_EXAMPLES

    def error(self, text: str) -> None:
        """Count an error and keep it if it is among the first."""
        self.num_errors += 1
        if len(self.errors) < self.max_examples:
            self.errors.append(text)

    def warn(self, text: str) -> None:
        """Count a warning and keep it if it is among the first."""
        self.num_warnings += 1
        if len(self.warnings) < self.max_examples:
            self.warnings.append(text)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Hold Python's collector of reference cycles off, for work that makes many small objects.

    It runs again and again while a large file becomes millions of dicts and lists, which hold no
    cycles, and takes a third to a half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@no_garbage_collection()
def read_json(path: str | Path, cure: str = ABSENT_CURE) -> Any:
    """Read a JSON file, once while a run starts; nobody may change what is returned.

    Args:
        path: The file.
        cure: What to do if it is absent. Defaults to 'check data_root and ann_file'.

    Raises:
        InputError: The file is absent or is not JSON (with the line and column), or a key stands
            twice in one object (with its place).
    """
    return read_once("json", path, lambda: _read_json(path, cure))


def _read_json(path: str | Path, cure: str) -> Any:
    try:
        return json.loads(read_text(path), object_pairs_hook=unique_keys)
    except TwiceError as error:
        raise _twice_error(path, error.args[0]) from error
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; {cure}{describe_similar(str(path))}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}; "
            "expected annotations in COCO format. Was it copied or downloaded in full?"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for annotations") from error
    except InputError:  # no text
        raise
    except ValueError as error:  # Python reads no integers of thousands of digits
        raise InputError(f"{path} holds a number that is too long: {error}") from error


def _twice_error(path: str | Path, key: str) -> InputError:
    """What to raise for a key that an object has twice; where it is takes a second reading."""
    try:
        with open(path, "rb") as file:
            for _ in stream_entries(file, str(path)):
                pass
    except InputError as error:
        if "stands twice" in str(error):
            return error
    return InputError(f"{path}: the key {key[:60]!r} stands twice in one object; leave one of them")


def load_coco(
    path: str | Path,
    name: str | None = None,
    require_annotations: bool = True,
    check_meaning: bool = True,
    cure: str = ABSENT_CURE,
) -> dict:
    """Read and check a COCO file; warnings go to the log.

    Args:
        path: A local file.
        name: What to call the file in messages. Defaults to ``path``.
        require_annotations: See :func:`check_coco`. Defaults to True.
        check_meaning: See :func:`check_coco`. Defaults to True.
        cure: See :func:`read_json`.

    Raises:
        InputError: The file is absent, is not JSON, or :func:`check_coco` finds errors in it.
    """
    data = read_json(path, cure)
    report = read_once(
        ("check", require_annotations, check_meaning),
        path,
        lambda: check_coco(data, require_annotations, check_meaning=check_meaning),
    )
    raise_on_errors(report, str(name or path))
    return data


def raise_on_errors(report: Report, name: str, kind: str = "COCO annotation file") -> None:
    """Log a report's warnings, raise its errors.

    Args:
        report: The report.
        name: What to call the file.
        kind: What it should be. Defaults to 'COCO annotation file'.

    Raises:
        InputError: The report has errors.
    """
    if report.num_warnings:
        title = f"{name}: {report.num_warnings} doubtful entries"
        print_log(_listing(title, report.warnings, report.num_warnings), "current", logging.WARNING)
    if report.num_errors:
        title = f"{name} is not a usable {kind}: {report.num_errors} errors"
        raise InputError(_listing(title, report.errors[:MAX_SHOWN], report.num_errors))


def _listing(title: str, examples: list[str], count: int) -> str:
    rest = [f"... and {count - len(examples)} more"] if count > len(examples) else []
    return "\n  ".join([title, *examples, *rest])


def check_coco(
    data: Any,
    require_annotations: bool = True,
    max_examples: int = MAX_EXAMPLES,
    check_meaning: bool = True,
) -> Report:
    """Check COCO instance annotations: structure, ids, boxes, masks, and what most of them mean.

    Args:
        data: The parsed file.
        require_annotations: Whether ``annotations`` must be there; the official files of test
            images have none. Defaults to True.
        max_examples: How many errors, and how many warnings, are kept in words. Defaults to 10.
        check_meaning: Whether it is an error, not a warning, where most objects seem to follow
            another convention, see :func:`mmbeit3.datasets.checks.coco_meaning.find_doubts`.
            Defaults to True.
    """
    report = Report(max_examples=max_examples)
    if not isinstance(data, dict):
        hint = "; is this a results file?" if isinstance(data, list) else ""
        report.error(
            f"the top level is {kind_of(data)}, expected an object with "
            f"'images', 'annotations' and 'categories'{hint}"
        )
        return report
    check_lists(data, require_annotations, report)
    if not report.num_errors:
        images = ImageCheck(report)
        for image in data["images"]:
            images.add(image)
        categories = check_categories(data["categories"], report)
        annotations = data.get("annotations", [])
        check = AnnotationCheck(images.sizes, categories, report)
        for annotation in annotations:
            check.add(annotation)
        check.finish()
        if not report.num_errors:
            doubts = find_doubts(annotations, images.sizes)
            is_tiny = bool(annotations) and check.num_tiny == len(annotations)
            first = annotations[0]["bbox"] if is_tiny else None
            say_meaning(doubts, check.num_tiny, first, report, check_meaning)
    return report


def check_lists(data: dict, require_annotations: bool, report: Report) -> None:
    """Check that the lists of a COCO file are there, but for their entries.

    Args:
        data: The parsed file.
        require_annotations: See :func:`check_coco`.
        report: Takes what is wrong.
    """
    for key in ("images", "categories", "annotations"):
        if key not in data:
            if key != "annotations" or require_annotations:
                report.error(f"'{key}' is missing at the top level")
        elif not isinstance(data[key], list):
            report.error(f"'{key}' is {kind_of(data[key])}, expected a list")
        elif not data[key] and key != "annotations":
            report.error(f"'{key}' is empty")


def say_meaning(
    doubts: Sequence[Doubt], num_tiny: int, tiny: Any, report: Report, is_error: bool
) -> None:
    """Say what most annotations mean; none of them is malformed.

    Args:
        doubts: What :func:`mmbeit3.datasets.checks.coco_meaning.find_doubts` found.
        num_tiny: How many boxes are smaller than a pixel.
        tiny: The first box, if all are; else None.
        report: Takes it.
        is_error: Whether a strong doubt is an error.
    """
    for doubt in doubts:
        if is_error and doubt.is_strong:
            report.error(
                f"{doubt.text}. If the file is right, set check_meaning=False of the data set"
            )
        else:  # before what is said about single entries
            report.num_warnings += 1
            report.warnings = [doubt.text, *report.warnings][: report.max_examples]
    if not doubts and tiny is not None:
        report.error(
            f"all {num_tiny} boxes are smaller than a pixel, the first is "
            f"{tiny}: boxes are [x, y, width, height] in pixels"
        )


class ImageCheck:
    """Checks the entries of ``images`` one after another.

    Args:
        report: Takes what is wrong.

    Attributes:
        sizes (dict[int, tuple[int, int]]): The (width, height) of each image by id.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.sizes: dict[int, tuple[int, int]] = {}
        self._indices: dict[str, int] = {}
        self._num_seen = 0

    def add(self, image: Any) -> bool:
        """Check the next entry; returns whether it can be used."""
        index = self._num_seen
        self._num_seen += 1
        problem = _image_problem(image)
        if problem is None and image["id"] in self.sizes:
            problem = "another image has the same id"
        if problem:
            self.report.error(f"images[{index}]{_id_of(image)}: {problem}")
            return False
        self.sizes[image["id"]] = (image["width"], image["height"])
        name = image["file_name"]
        first = self._indices.setdefault(name, index)
        if first != index and name:  # annotations made up for evaluation know no names
            self.report.warn(f"images[{index}]{_id_of(image)}: images[{first}] is {name!r}, too")
        return True


def _image_problem(image: Any) -> str | None:
    problem = missing_key(image, ("id", "file_name", "width", "height"))
    if problem:
        return problem
    if not is_id(image["id"]):
        return f"id is {_SHORT.repr(image['id'])}, expected an integer (64 bits)"
    if not is_text(image["file_name"]):
        return f"file_name is {_SHORT.repr(image['file_name'])}, expected a name"
    for key in ("width", "height"):
        if type(image[key]) is not int or image[key] <= 0:
            return f"{key} is {_SHORT.repr(image[key])}, expected pixels (an integer above 0)"
    if image["width"] * image["height"] > MAX_PIXELS:
        return f"is said to have more than {MAX_PIXELS:,} pixels, which OpenCV does not read"
    return None


def is_id(value: Any) -> bool:
    """Whether a value can be an id: an integer of 64 bits, and not a bool."""
    return type(value) is int and -MAX_ID <= value < MAX_ID


def shortened(value: Any) -> str:
    """Write a value of a file as Python does, with its middle left out if it is long."""
    return _SHORT.repr(value)


def is_text(value: Any) -> bool:
    """Whether a value can be a name, of a file too; JSON may hold halves of characters."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_categories(categories: list, report: Report) -> dict[int, str]:
    """Check the ``categories`` list and return the name of each by id."""
    names: dict[int, str] = {}
    for index, category in enumerate(categories):
        problem = missing_key(category, ("id", "name"))
        if problem is None:
            number, name = category["id"], category["name"]
            if not is_id(number):
                problem = f"id is {_SHORT.repr(number)}, expected an integer (64 bits)"
            elif not is_text(name) or not name.strip():
                problem = f"name is {_SHORT.repr(name)}, expected text"
            elif number in names:
                problem = "another category has the same id"
            elif name in names.values():
                problem = f"another category has the same name {name!r}; classes go by their names"
            else:
                names[number] = name
        if problem:
            report.error(f"categories[{index}]{_id_of(category)}: {problem}")
    return names


class AnnotationCheck:
    """Checks the entries of ``annotations`` one after another.

    Args:
        sizes: The (width, height) of each image by id.
        categories: What has the ids of the categories.
        report: Takes what is wrong.

    Attributes:
        num_seen (int): How many entries there were.
        num_tiny (int): How many have boxes smaller than a pixel.
    """

    def __init__(
        self, sizes: dict[int, tuple[int, int]], categories: Collection[int], report: Report
    ) -> None:
        self.sizes, self.categories, self.report = sizes, categories, report
        self.num_seen = self.num_tiny = 0
        self._ids = array("q")
        self._indices = array("q")  # of the entries with these ids
        self._coded: list[tuple[int, Any, dict]] = []  # index, id, compressed RLE
        self._code_problems: list[str] = []

    def add(self, annotation: Any) -> bool:
        """Check the next entry; returns whether it can be used, as far as one can tell by now."""
        index = self.num_seen
        self.num_seen += 1
        problem = _annotation_problem(annotation, self.sizes, self.categories)
        if problem:
            self.report.error(f"annotations[{index}]{_id_of(annotation)}: {problem}")
            return False
        self._ids.append(annotation["id"])
        self._indices.append(index)
        mask = annotation.get("segmentation")
        if type(mask) is dict and isinstance(mask["counts"], (str, bytes)):
            self._coded.append((index, annotation["id"], mask))
            if len(self._coded) == CHUNK:
                self._check_codes()
        box = annotation["bbox"]
        is_tiny = box[2] < 1 or box[3] < 1 or annotation["area"] <= 0
        self.num_tiny += is_tiny
        doubt = _doubt(annotation, is_tiny, *self.sizes[annotation["image_id"]])
        if doubt:
            self.report.warn(f"annotations[{index}]{_id_of(annotation)}: bbox {box} {doubt}")
        return True

    def finish(self) -> None:
        """Check what only all entries together tell."""
        ids = np.array(self._ids, np.int64)
        order = np.argsort(ids, kind="stable")
        repeated = np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])
        for place in repeated.tolist():
            name = f"annotations[{self._indices[place]}] (id {self._ids[place]})"
            self.report.error(f"{name}: another annotation has the same id")
        self._check_codes()
        for text in self._code_problems:
            self.report.error(text)

    def _check_codes(self) -> None:
        """Check compressed RLE, many at a time."""
        masks = [mask for _, _, mask in self._coded]
        areas = [mask["size"][0] * mask["size"][1] for mask in masks]
        problems, _ = read_codes([mask["counts"] for mask in masks], areas)
        for place, problem in problems.items():
            index, number, _ = self._coded[place]
            text = f"annotations[{index}] (id {number}): the RLE's counts {problem}"
            self._code_problems.append(text)
        self._coded.clear()


def _doubt(annotation: dict, is_tiny: bool, image_width: int, image_height: int) -> str | None:
    """What looks wrong about a valid annotation."""
    if is_tiny:
        return "is smaller than a pixel or has no area: training leaves it out"
    x, y, width, height = annotation["bbox"]
    if x < -1 or y < -1 or x + width > image_width + 1 or y + height > image_height + 1:
        return (
            f"reaches beyond its image of {image_width} x {image_height}; "
            "the format is [x, y, width, height] in pixels"
        )
    if annotation["area"] > (image_width + 2) * (image_height + 2):
        return f"has the area {annotation['area']}, more than its image"
    return None


def _annotation_problem(
    annotation: Any, sizes: dict[int, tuple[int, int]], categories: Collection[int]
) -> str | None:
    """What is wrong with an annotation; of its compressed RLE, the size alone is looked at."""
    problem = missing_key(annotation, ("id", "image_id", "category_id", "bbox", "area"))
    if problem:
        return problem
    for key in ("id", "image_id", "category_id"):
        if not is_id(annotation[key]):
            return f"{key} is {_SHORT.repr(annotation[key])}, expected an integer (64 bits)"
    if annotation["image_id"] not in sizes:
        return f"image_id {annotation['image_id']} is not in images"
    if annotation["category_id"] not in categories:
        return f"category_id {annotation['category_id']} is not in categories ({_span(categories)})"
    if not is_finite_number(annotation["area"]):
        return f"area is {_SHORT.repr(annotation['area'])}, expected pixels"
    for key in ("iscrowd", "ignore"):
        if annotation.get(key, 0) not in (0, 1):
            return f"{key} is {_SHORT.repr(annotation[key])}, expected 0 or 1"
    width, height = sizes[annotation["image_id"]]
    box = annotation["bbox"]
    problem = box_problem(box)
    if problem:
        return problem
    x, y, box_width, box_height = box
    reach = max(width, height)
    if min(x, y) < -reach or max(x + box_width, y + box_height) > 2 * reach:
        return _far("bbox", box, width, height)
    return _mask_problem(annotation.get("segmentation"), width, height)


def _far(name: str, numbers: list, width: int, height: int) -> str:
    return f"{name} {_SHORT.repr(numbers)} reaches far beyond its image of {width} x {height}"


def box_problem(box: Any) -> str | None:
    """What keeps a value from being a COCO box, or None."""
    try:
        x, y, width, height = box
        finite = isfinite(x + y + width + height) and _all_numbers(box)
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        return f"bbox is {_SHORT.repr(box)}, expected 4 finite numbers [x, y, width, height]"
    if width < 0 or height < 0:
        return f"bbox is {box!r}: its width or height is negative ([x, y, width, height])"
    return None


def _all_numbers(values: Collection) -> bool:
    """Whether all values are numbers, of numpy too, and none a bool."""
    return NUMBERS.issuperset(map(type, values)) or all(
        isinstance(value, Real) and not isinstance(value, bool) for value in values
    )


def _mask_problem(segmentation: Any, width: int, height: int) -> str | None:
    if segmentation is None:  # a box without a mask is fine where only boxes are used
        return None
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation, width, height)
    if not isinstance(segmentation, list):
        return f"segmentation is {kind_of(segmentation)}, expected polygons or an RLE object"
    reach = max(width, height)
    for index, polygon in enumerate(segmentation):
        if not isinstance(polygon, list):
            return f"segmentation[{index}] is {kind_of(polygon)}, expected a list [x0, y0, x1, ...]"
        if len(polygon) < 6 or len(polygon) % 2:
            return (
                f"segmentation[{index}] has {len(polygon)} numbers, "
                "expected 3 or more points [x0, y0, x1, y1, ...]"
            )
        try:
            finite = isfinite(sum(polygon))  # one pass in C; nan and inf survive the sum
        except (TypeError, OverflowError):
            finite = False
        if not finite:
            return f"segmentation[{index}] holds something that is not a finite number"
        if min(polygon) < -reach or max(polygon) > 2 * reach:
            return _far(f"segmentation[{index}]", polygon, width, height)
    return None


def rle_problem(rle: dict, image_size: tuple[int, int]) -> str | None:
    """What keeps an object from being the RLE mask of an image (width, height), or None."""
    problem = _rle_problem(rle, *image_size)
    if problem or isinstance(rle["counts"], list):
        return problem
    found, _ = read_codes([rle["counts"]], [image_size[0] * image_size[1]])
    return f"the RLE's counts {found[0]}" if found else None


def _rle_problem(rle: dict, width: int, height: int) -> str | None:
    """The same, but for the content of compressed counts."""
    if "size" not in rle or "counts" not in rle:
        return f"the RLE has the keys {_SHORT.repr(sorted(rle))}, expected 'size' and 'counts'"
    size, counts = rle["size"], rle["counts"]
    if size != [height, width] or not _all_numbers(size):
        return f"the RLE has size {_SHORT.repr(size)}, expected [height, width] = {[height, width]}"
    if isinstance(counts, (str, bytes)):
        return None
    if not isinstance(counts, list):
        return f"the RLE's counts are {kind_of(counts)}, expected a list or text"
    if not {int}.issuperset(map(type, counts)) or min(counts, default=0) < 0:
        return "the RLE's counts hold something other than whole numbers from 0 on"
    if sum(counts) != height * width:
        return f"the RLE's counts cover {sum(counts)} pixels, expected {height * width}"
    return None


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number other than nan and infinity, and not a bool."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:
        return False


def missing_key(entry: Any, keys: tuple[str, ...]) -> str | None:
    """Say which key an entry lacks, or that it is no object; None if it is one with all keys."""
    if not isinstance(entry, dict):
        return f"is {kind_of(entry)}, expected an object"
    for key in keys:
        if key not in entry:
            return f"'{key}' is missing"
    return None


def _id_of(entry: Any) -> str:
    known = isinstance(entry, dict) and "id" in entry
    return f" (id {_SHORT.repr(entry['id'])})" if known else ""


def kind_of(value: Any) -> str:
    """What JSON calls a value, such as 'a list'."""
    names = {dict: "an object", list: "a list", str: "text", int: "an integer", float: "a number"}
    return names.get(type(value)) or _SHORT.repr(value)


def _span(ids: Collection[int]) -> str:
    low, high = min(ids, default=0), max(ids, default=0)
    return f"{low}..{high}" if len(ids) == high - low + 1 else f"{len(ids)} ids in {low}..{high}"
