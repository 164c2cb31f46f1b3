"""A page on where class maps are wrong, and its numbers as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.datasets.checks.files import in_threads
from mmbeit3.datasets.checks.segmentation import read_label_map
from mmbeit3.datasets.class_list import ClassList, read_class_list
from mmbeit3.datasets.palette import make_palette
from mmbeit3.evaluation import resampling
from mmbeit3.evaluation.segmentation_numbers import (
    IGNORED,
    SegmentationNumbers,
    count_pairs,
    measure,
)
from mmbeit3.inference.report_page import (
    SIDE,
    begin,
    choose_images,
    draw_pictures,
    result_names,
    write_report,
)
from mmbeit3.utils import InputError, listed, warn
from mmbeit3.utils.image_reading import EXTENSIONS, read_image
from mmbeit3.visualization.overlay import draw_class_map
from mmbeit3.visualization.picture_page import thumbnail

LEAST = 1e-4  # part of an image's pixels from which on the page lists a cell of it
WRONG = (48, 48, 230)  # blue, green, red of wrong pixels
PAPER = 150  # gray of the picture of an image that is not there


@dataclass(frozen=True)
class LabeledImage:
    """An image with its label map.

    Attributes:
        name: What the page calls it.
        truth: The label map.
        image: The image. Defaults to None: class maps are drawn on gray.
        reduce_zero_label: Whether 0 is no class and the classes count from 1. Defaults to False.
        label_map: Class number by what the label map has after that. Defaults to None, the same.
    """

    name: str
    truth: Path
    image: Path | None = None
    reduce_zero_label: bool = False
    label_map: Mapping[int, int] | None = None


@dataclass(frozen=True)
class ClassMaps:
    """A result: a label map for each image.

    Attributes:
        name: What the page calls it.
        files: The label maps in the order of the images.
        has_indices: Whether they hold indices of classes where the truth is one more. Defaults to
            False: they have the values of the truth.
    """

    name: str
    files: Sequence[Path]
    has_indices: bool = False


def report_label_maps(
    results: Sequence[str | Path],
    ground_truth: str | Path,
    out_dir: str | Path,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    reduce_zero_label: bool = False,
) -> dict[str, Any]:
    """Write a page on folders of label maps, whoever made them; see :func:`report_segmentation`.

    Args:
        results: Folders of PNG files with the paths and values of the ground truth, as ``mmbeit3
            test --out`` writes them; or of a run of ``mmbeit3 infer``, whose values are indices.
            The others are compared with the first.
        ground_truth: Folder of the true label maps.
        out_dir: Where the report goes; made if absent.
        images: Folder of the images. Defaults to None: class maps are drawn on gray.
        classes: A class list, see :func:`mmbeit3.datasets.class_list.read_class_list`. Defaults to
            None: those of the run of ``infer``, else numbers.
        reduce_zero_label: Whether 0 is no class and the classes count from 1. Defaults to False.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: A folder or a file of it cannot be used.
    """
    begin(out_dir)
    truths = _find_maps(Path(ground_truth), "ground truth")
    pictures = _find_images(Path(images)) if images is not None else {}
    labeled = [
        LabeledImage(stem, path, pictures.get(stem), reduce_zero_label)
        for stem, path in truths.items()
    ]
    named = read_class_list(classes) if classes is not None else None
    found = []
    for name, result in zip(result_names(results), results, strict=True):
        folder, listed_there = _folder_of_run(Path(result))
        named = named or listed_there
        files = _matching(truths, _find_maps(folder, "result"), folder, Path(ground_truth))
        found.append(ClassMaps(name, files, listed_there is not None))
    note = f"{' and '.join(map(str, results))}, next to {ground_truth}"
    content = report_segmentation(labeled, found, named, out_dir, note)
    if images is not None and not any(image.image for image in labeled):
        warn(f"the pictures are of class maps alone: {images} has no image of their names")
    return content


def report_segmentation(
    images: Sequence[LabeledImage],
    results: Sequence[ClassMaps],
    classes: ClassList | None,
    out_dir: str | Path,
    note: str,
) -> dict[str, Any]:
    """Write a page on class maps and its numbers, ``report.html`` and ``report.json``.

    Args:
        images: The images.
        results: The results; the others are compared with the first.
        classes: Names and colors. Defaults to None: the values are the names.
        out_dir: Where the two files go; made if absent.
        note: What the page is on.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: A file cannot be used, or Jinja2 or Plotly is not installed.
    """
    begin(out_dir)
    counted = [
        list(in_threads(_count, list(zip(images, _of(result), strict=True)), "counting pixels"))
        for result in results
    ]
    if classes is None:
        true, given = np.concatenate([own[:, :2] for part in counted for own in part]).T
        most = int(true.max(initial=0))
        foreign = np.unique(given[(given > most) & (given != IGNORED)])
        if len(foreign):
            warn(
                f"the results have classes above all of the ground truth: {listed(foreign, 5)}; "
                "if that is right, name the classes by --classes"
            )
            most = int(foreign[-1])
        classes = ClassList(tuple(map(str, range(most + 1))), make_palette(most + 1))
    for result, part in zip(results, counted, strict=True):
        _check_values(images, result, part, classes.names)
    measured = [measure(part, classes.names) for part in counted]
    first, *others = measured
    comparisons = [resampling.compare(first.iou, other.iou, len(images)) for other in others]
    wanted = choose_images(list(map(_choice, measured)))
    draw = partial(_draw, images=images, results=results, classes=classes)
    names = [result.name for result in results]
    content = {
        "kind": "label maps",
        "results": [
            {"name": name} | numbers.as_json()
            for name, numbers in zip(names, measured, strict=True)
        ],
        "comparisons": comparisons,
    }
    page = {
        "classes": classes.names,
        "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in classes.palette],
        "names": [image.name for image in images],
        "results": [
            {"name": name, **numbers.as_json(), "images": list(map(_page_cells, numbers.cells))}
            for name, numbers in zip(names, measured, strict=True)
        ],
        "comparisons": comparisons,
        "pictures": draw_pictures(wanted, draw),
    }
    write_report(out_dir, "segmentation.html", "Segmentation", note, page, content)
    return content


def _of(result: ClassMaps) -> list[tuple[Path, bool]]:
    return [(file, result.has_indices) for file in result.files]


def _count(pair: tuple[LabeledImage, tuple[Path, bool]]) -> np.ndarray:
    return count_pairs(*_read(*pair))


def _read(image: LabeledImage, result: tuple[Path, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (H, W) of the truth and of a result."""
    file, has_indices = result
    truth = read_label_map(image.truth).astype(np.uint8)
    prediction = read_label_map(file).astype(np.uint8)
    if truth.shape != prediction.shape:
        sizes = (f"{shape[1]} x {shape[0]}" for shape in (prediction.shape, truth.shape))
        raise InputError(
            "{} is {}, and its truth {} is {}; expected one size".format(
                *itertools.chain(*zip((file, image.truth), sizes, strict=True))
            )
        )
    table = _values(image.reduce_zero_label)
    prediction = prediction if has_indices else table[prediction]
    if image.label_map:
        others = table.copy()
        for old, new in image.label_map.items():
            others[table == old] = new % 256
        table = others
    return table[truth], prediction


def _values(reduce_zero_label: bool) -> np.ndarray:
    """Class number of each value of a label map."""
    table = np.arange(256, dtype=np.uint8)
    if reduce_zero_label:
        table[1:IGNORED] = np.arange(IGNORED - 1)
        table[0] = IGNORED
    return table


def _check_values(
    images: Sequence[LabeledImage],
    result: ClassMaps,
    counted: Sequence[np.ndarray],
    classes: Sequence[str],
) -> None:
    """Refuse values that are no class, which label maps of another data set have."""
    for index, own in enumerate(counted):
        files = (images[index].truth, result.files[index])
        for file, values in zip(files, own.T[:2], strict=True):
            wrong = values[(values >= len(classes)) & (values != IGNORED)]
            if len(wrong):
                raise InputError(
                    f"{file} has pixels of class {listed(np.unique(wrong), 3)}; expected 0 to "
                    f"{len(classes) - 1}, the {len(classes)} classes {listed(classes, 3)}: is it "
                    "of another data set, or do the classes count from 1 (reduce_zero_label)?"
                )
    if not any(len(own) for own in counted):
        raise InputError(
            "no pixel of the ground truth has a class, all are ignored: is reduce_zero_label right"
        )


def _choice(numbers: SegmentationNumbers) -> tuple[list[dict], list[float], list[float]]:
    cells = [{(row, column): n for row, column, n in own.tolist()} for own in numbers.cells]
    wrong = numbers.wrong.tolist()
    return cells, wrong, [1 - part for part in wrong]


def _page_cells(cells: np.ndarray) -> list[list[int]]:
    return cells[cells[:, 2] >= LEAST * cells[:, 2].sum()].tolist()


def _draw(
    index: int, images: Sequence[LabeledImage], results: Sequence[ClassMaps], classes: ClassList
) -> list[bytes]:
    """The truth, then each result and where it is wrong."""
    place = images[index]
    pairs = [_read(place, _of(result)[index]) for result in results]
    truth = pairs[0][0]
    image = _image(place.image, truth.shape)
    colors = [(blue, green, red) for red, green, blue in classes.palette]
    draw = partial(draw_class_map, image, classes=classes.names, palette=colors, legend=False)
    pictures = [draw(truth)]
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    for _, prediction in pairs:
        difference = gray.copy()
        difference[(truth != prediction) & (truth != IGNORED)] = WRONG
        pictures += [draw(prediction), difference]
    return [thumbnail(picture, SIDE) for picture in pictures]


def _image(path: Path | None, shape: tuple[int, ...]) -> np.ndarray:
    """An image in the size of its label map; gray where it cannot be read."""
    height, width = shape
    if path is not None:
        try:
            image = read_image(path)
        except InputError:
            pass
        else:
            same = image.shape[:2] == (height, width)
            return image if same else cv2.resize(image, (width, height))
    return np.full((height, width, 3), PAPER, np.uint8)


def _find_maps(folder: Path, what: str) -> dict[str, Path]:
    """Label maps by their path below a folder, without suffix."""
    if not folder.is_dir():
        raise InputError(
            f"the {what} {folder} is no folder; expected a folder of label maps (.png), as "
            "`mmbeit3 test --out` writes them, next to one of the true ones"
        )
    files = _by_stem(folder, (".png",))
    if not files:
        of = _summary(folder).get("task")
        whose = f"; it holds results of the task {of!r}" if of else ""
        raise InputError(f"{folder} has no label map (.png){whose}")
    return files


def _find_images(folder: Path) -> dict[str, Path]:
    return _by_stem(folder, EXTENSIONS)


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes
    }


def _summary(folder: Path) -> dict[str, Any]:
    """What a run of ``infer`` has written about itself; {} in another folder."""
    file = folder / "summary.json"
    content = read_json(file) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def _folder_of_run(folder: Path) -> tuple[Path, ClassList | None]:
    """The folder of the label maps, and the classes if ``infer`` has written them."""
    inner = folder / "labels" if (folder / "labels").is_dir() else folder
    summary = _summary(inner.parent if inner.name == "labels" else inner)
    if summary.get("task") != "segmentation":
        return folder, None
    entries = summary["classes"]
    return inner, ClassList(
        tuple(entry["name"] for entry in entries), [tuple(entry["color"]) for entry in entries]
    )


def _matching(
    truths: Mapping[str, Path], found: Mapping[str, Path], folder: Path, ground_truth: Path
) -> list[Path]:
    missing = [stem for stem in truths if stem not in found]
    others = [stem for stem in found if stem not in truths]
    if missing:
        cure = f"; {len(others)} others are there: {listed(others, 3)}" if others else ""
        raise InputError(
            f"{folder} lacks {len(missing)} of the {len(truths)} label maps of {ground_truth}: "
            f"{listed(missing, 3)}{cure}. Expected one of the same path for each: are the results "
            "of another data set?"
        )
    if others:
        warn(f"{folder}: {len(others)} label maps have no truth: {listed(others, 3)}")
    return [found[stem] for stem in truths]
