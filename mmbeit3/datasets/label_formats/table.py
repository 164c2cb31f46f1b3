"""Boxes in a CSV file, a line for each object, with the columns of TensorFlow's tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    number,
)
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.tables import csv_text, without_apostrophe
from mmbeit3.utils.text_files import read_text

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "score")
# Other names that tables have for them, in lower case and without _ and spaces.
ALIASES = {
    "filename": ("image", "imagepath", "imagename", "path", "file", "img"),
    "width": ("imagewidth", "imgwidth"),
    "height": ("imageheight", "imgheight"),
    "class": ("label", "name", "category", "classname", "labelname"),
    "xmin": ("x1", "left"),
    "ymin": ("y1", "top"),
    "xmax": ("x2", "right"),
    "ymax": ("y2", "bottom"),
    "score": ("confidence",),
}
OPTIONAL = ("width", "height", "score")


def read(source: Source) -> Labels:
    """Read a table; a line without a class is an image without an object."""
    text = read_text(source.path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    found = source.folder()
    images: dict[str, LabeledImage] = {}
    try:
        places = _places(next(reader, []), source.path)
        for row in reader:
            where = f"{source.path}, line {reader.line_num}"
            if row and len(row) <= max(places.values()):
                source.report.error(f"{where}: {len(row)} columns, expected as in the header")
            elif row:
                values = {key: row[place] for key, place in places.items()}
                _read_row(values, where, found, images, source)
    except csv.Error as error:
        raise InputError(f"{source.path} is no CSV: {error} (line {reader.line_num})") from error
    names = sorted({each.name for image in images.values() for each in image.objects})
    return Labels(names, list(images.values()), found.root)


def _places(header: list[str], path: Path) -> dict[str, int]:
    keys = [name.lower().replace("_", "").replace(" ", "").strip() for name in header]
    places = {}
    for column in COLUMNS:
        known = [keys.index(name) for name in (column, *ALIASES[column]) if name in keys]
        if known:
            places[column] = known[0]
        elif column not in OPTIONAL:
            raise InputError(
                f"{path}: the header has no column {column!r}; it has {listed(header)}. Expected "
                f"{', '.join(COLUMNS)}, of which {', '.join(OPTIONAL)} may be absent"
            )
    return places


def _read_row(
    row: dict[str, str], where: str, found: Any, images: dict[str, LabeledImage], source: Source
) -> None:
    name = without_apostrophe(row["filename"])
    sides = [number(row.get(key)) for key in ("width", "height")]
    size = (int(sides[0]), int(sides[1])) if all(side >= 1 for side in sides) else None
    image = found.take(where, [name], size, is_sure=True)
    if image is None:
        return
    image = images.setdefault(image.name, image)
    label = without_apostrophe(row["class"]).strip()
    ends = ("xmin", "ymin", "xmax", "ymax")
    if not label and not any(row[key].strip() for key in ends):
        return
    x1, y1, x2, y2 = (number(row[key]) for key in ends)
    score = number(row["score"]) if row.get("score", "").strip() else None
    image.objects.append(LabeledObject(label, (x1, y1, x2, y2), score=score))


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write one table."""
    yield "", lambda: csv_text(_rows(labels))


def _rows(labels: Labels) -> Iterator[tuple[Any, ...]]:
    yield COLUMNS
    for image in labels.images:
        for found in image.objects:
            box = [f"{value:.10g}" for value in found.box]
            score = "" if found.score is None else f"{found.score:.6g}"
            yield (image.name, image.width, image.height, found.name, *box, score)
        if not image.objects:
            yield (image.name, image.width, image.height, *[""] * 6)
