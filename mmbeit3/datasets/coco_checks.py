"""Reading COCO annotation files and saying which entry is wrong, before training starts."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmbeit3.utils import InputError

MAX_EXAMPLES = 10


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

    def error(self, text: str) -> None:
        """Count an error and keep it if it is among the first."""
        self.num_errors += 1
        if len(self.errors) < MAX_EXAMPLES:
            self.errors.append(text)

    def warn(self, text: str) -> None:
        """Count a warning and keep it if it is among the first."""
        self.num_warnings += 1
        if len(self.warnings) < MAX_EXAMPLES:
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
def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: The file is absent or is not JSON (with the line and column).
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check data_root and ann_file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}. "
            "Was it copied or downloaded in full?"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8: {error.reason}") from error


def load_coco(path: str | Path, name: str | None = None, require_annotations: bool = True) -> dict:
    """Read and check a COCO file; warnings go to the log.

    Args:
        path: A local file.
        name: What to call the file in messages. Defaults to ``path``.
        require_annotations: See :func:`check_coco`. Defaults to True.

    Raises:
        InputError: The file is absent, is not JSON, or :func:`check_coco` finds errors in it.
    """
    data = read_json(path)
    raise_on_errors(check_coco(data, require_annotations), str(name or path))
    return data


def raise_on_errors(report: Report, name: str) -> None:
    """Log a report's warnings, raise its errors.

    Raises:
        InputError: The report has errors.
    """
    if report.num_warnings:
        title = f"{name}: {report.num_warnings} doubtful entries"
        print_log(_listing(title, report.warnings, report.num_warnings), "current", logging.WARNING)
    if report.num_errors:
        title = f"{name} is not a usable COCO annotation file: {report.num_errors} errors"
        raise InputError(_listing(title, report.errors, report.num_errors))


def _listing(title: str, examples: list[str], count: int) -> str:
    rest = [f"... and {count - len(examples)} more"] if count > len(examples) else []
    return "\n  ".join([title, *examples, *rest])


def check_coco(data: Any, require_annotations: bool = True) -> Report:
    """Check COCO instance annotations in one pass: structure, ids, boxes, masks.

    Args:
        data: The parsed file.
        require_annotations: Whether ``annotations`` must be there; the official files of test
            images have none. Defaults to True.
    """
    report = Report()
    if not isinstance(data, dict):
        hint = "; is this a results file?" if isinstance(data, list) else ""
        report.error(
            f"the top level is {_kind(data)}, expected an object with "
            f"'images', 'annotations' and 'categories'{hint}"
        )
        return report
    for key in ("images", "categories", "annotations"):
        if key not in data:
            if key != "annotations" or require_annotations:
                report.error(f"'{key}' is missing at the top level")
        elif not isinstance(data[key], list):
            report.error(f"'{key}' is {_kind(data[key])}, expected a list")
        elif not data[key] and key != "annotations":
            report.error(f"'{key}' is empty")
    if not report.num_errors:
        sizes = _check_images(data["images"], report)
        categories = check_categories(data["categories"], report)
        _check_annotations(data.get("annotations", []), sizes, categories, report)
    return report


def _check_images(images: list, report: Report) -> dict[int, tuple[int, int]]:
    """The (width, height) of each image by id."""
    sizes: dict[int, tuple[int, int]] = {}
    for index, image in enumerate(images):
        problem = _image_problem(image)
        if problem is None and image["id"] in sizes:
            problem = "another image has the same id"
        if problem:
            report.error(f"images[{index}]{_id_of(image)}: {problem}")
        else:
            sizes[image["id"]] = (image["width"], image["height"])
    return sizes


def _image_problem(image: Any) -> str | None:
    problem = _missing(image, ("id", "file_name", "width", "height"))
    if problem:
        return problem
    if not isinstance(image["id"], int):
        return f"id is {image['id']!r}, expected an integer"
    if not isinstance(image["file_name"], str):
        return f"file_name is {image['file_name']!r}, expected a name"
    for key in ("width", "height"):
        if not isinstance(image[key], int) or image[key] <= 0:
            return f"{key} is {image[key]!r}, expected pixels (an integer above 0)"
    return None


def check_categories(categories: list, report: Report) -> dict[int, str]:
    """Check the ``categories`` list and return the name of each by id."""
    names: dict[int, str] = {}
    for index, category in enumerate(categories):
        problem = _missing(category, ("id", "name"))
        if problem is None:
            number, name = category["id"], category["name"]
            if not isinstance(number, int):
                problem = f"id is {number!r}, expected an integer"
            elif not isinstance(name, str) or not name:
                problem = f"name is {name!r}, expected text"
            elif number in names:
                problem = "another category has the same id"
            elif name in names.values():
                problem = f"another category has the same name {name!r}; classes go by their names"
            else:
                names[number] = name
        if problem:
            report.error(f"categories[{index}]{_id_of(category)}: {problem}")
    return names


def _check_annotations(
    annotations: list, sizes: dict[int, tuple[int, int]], categories: dict[int, str], report: Report
) -> None:
    seen: set[int] = set()
    num_tiny = 0
    for index, annotation in enumerate(annotations):
        problem = _annotation_problem(annotation, sizes, categories)
        if problem is None and annotation["id"] in seen:
            problem = "another annotation has the same id"
        if problem:
            report.error(f"annotations[{index}]{_id_of(annotation)}: {problem}")
            continue
        seen.add(annotation["id"])
        x, y, width, height = annotation["bbox"]
        image_width, image_height = sizes[annotation["image_id"]]
        doubt = None
        if width < 1 or height < 1 or annotation["area"] <= 0:
            num_tiny += 1
            doubt = "is smaller than a pixel or has no area: training leaves it out"
        elif x < -1 or y < -1 or x + width > image_width + 1 or y + height > image_height + 1:
            doubt = (
                f"reaches beyond its image of {image_width} x {image_height}; "
                "the format is [x, y, width, height] in pixels"
            )
        if doubt:
            box = annotation["bbox"]
            report.warn(f"annotations[{index}]{_id_of(annotation)}: bbox {box} {doubt}")
    if num_tiny and num_tiny == len(annotations):
        report.error(
            f"all {num_tiny} boxes are smaller than a pixel, the first is "
            f"{annotations[0]['bbox']}: boxes are [x, y, width, height] in pixels, not fractions"
        )


def _annotation_problem(
    annotation: Any, sizes: dict[int, tuple[int, int]], categories: dict[int, str]
) -> str | None:
    problem = _missing(annotation, ("id", "image_id", "category_id", "bbox", "area"))
    if problem:
        return problem
    for key in ("id", "image_id", "category_id"):
        if not isinstance(annotation[key], int):
            return f"{key} is {annotation[key]!r}, expected an integer"
    if annotation["image_id"] not in sizes:
        return f"image_id {annotation['image_id']} is not in images"
    if annotation["category_id"] not in categories:
        return f"category_id {annotation['category_id']} is not in categories ({_span(categories)})"
    if not is_finite_number(annotation["area"]):
        return f"area is {annotation['area']!r}, expected pixels"
    return box_problem(annotation["bbox"]) or _mask_problem(
        annotation.get("segmentation"), sizes[annotation["image_id"]]
    )


def box_problem(box: Any) -> str | None:
    """What keeps a value from being a COCO box, or None."""
    try:
        x, y, width, height = box
        finite = isfinite(x + y + width + height)
    except (TypeError, ValueError):
        finite = False
    if not finite:
        return f"bbox is {box!r}, expected 4 finite numbers [x, y, width, height]"
    if width < 0 or height < 0:
        return f"bbox is {box!r}: its width or height is negative ([x, y, width, height])"
    return None


def _mask_problem(segmentation: Any, image_size: tuple[int, int]) -> str | None:
    if not segmentation:  # a box without a mask is fine where only boxes are used
        return None
    if isinstance(segmentation, dict):
        return rle_problem(segmentation, image_size)
    if not isinstance(segmentation, list):
        return f"segmentation is {_kind(segmentation)}, expected polygons or an RLE object"
    for index, polygon in enumerate(segmentation):
        if not isinstance(polygon, list):
            return f"segmentation[{index}] is {_kind(polygon)}, expected a list [x0, y0, x1, ...]"
        if len(polygon) < 6 or len(polygon) % 2:
            return (
                f"segmentation[{index}] has {len(polygon)} numbers, "
                "expected 3 or more points [x0, y0, x1, y1, ...]"
            )
        try:
            finite = isfinite(sum(polygon))  # one pass in C; nan and inf survive the sum
        except TypeError:
            finite = False
        if not finite:
            return f"segmentation[{index}] holds something that is not a finite number"
    return None


def rle_problem(rle: dict, image_size: tuple[int, int]) -> str | None:
    """What keeps an object from being the RLE mask of an image (width, height), or None."""
    if "size" not in rle or "counts" not in rle:
        return f"the RLE has the keys {sorted(rle)}, expected 'size' and 'counts'"
    width, height = image_size
    if rle["size"] != [height, width]:
        return f"the RLE has size {rle['size']}, expected [height, width] = {[height, width]}"
    if not isinstance(rle["counts"], (list, str, bytes)):
        return f"the RLE's counts are {_kind(rle['counts'])}, expected a list or text"
    return None


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number other than nan and infinity."""
    return isinstance(value, (int, float)) and isfinite(value)


def _missing(entry: Any, keys: tuple[str, ...]) -> str | None:
    if not isinstance(entry, dict):
        return f"is {_kind(entry)}, expected an object"
    for key in keys:
        if key not in entry:
            return f"'{key}' is missing"
    return None


def _id_of(entry: Any) -> str:
    return f" (id {entry['id']})" if isinstance(entry, dict) and "id" in entry else ""


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "an integer", float: "a number"}
    return names.get(type(value), repr(value))


def _span(ids: Collection[int]) -> str:
    low, high = min(ids, default=0), max(ids, default=0)
    return f"{low}..{high}" if len(ids) == high - low + 1 else f"{len(ids)} ids in {low}..{high}"
