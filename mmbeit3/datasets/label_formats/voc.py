"""Labels in folders of Pascal VOC: an XML file for each image, boxes alone.

Coordinates of VOC are numbers of pixels from 1, both ends within the box: ``xmin`` 1 and ``xmax``
100 are all columns of an image of that width, here 0 and 100. Detectron2 reads them so, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import floor
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    label_names,
    number,
)
from mmbeit3.datasets.label_formats.xml_files import add, read_xml, xml_text
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.text_files import read_text

ANNOTATIONS, IMAGES, SPLITS = "Annotations", "JPEGImages", "ImageSets/Main"


def files(path: Path) -> list[Path]:
    """The label files of a data set, its lists of images too."""
    return sorted([*_annotations(path).rglob("*.xml"), *(path / SPLITS).glob("*.txt")])


def splits(path: Path) -> list[str]:
    """The parts of a data set that there are lists of."""
    known = ("train", "val", "trainval", "test")
    return [name for name in known if (path / SPLITS / f"{name}.txt").is_file()]


def _annotations(path: Path) -> Path:
    return path / ANNOTATIONS if (path / ANNOTATIONS).is_dir() else path


def read(source: Source) -> Labels:
    """Read a folder with Annotations/ and maybe JPEGImages/, or one of XML files and images."""
    folder = _annotations(source.path)
    paths = sorted(folder.rglob("*.xml"))
    chosen = _chosen(source)
    usual: Path | None = source.path / IMAGES
    if not (source.path / IMAGES).is_dir():
        has_images = any(path.suffix.lower() in EXTENSIONS for path in folder.rglob("*"))
        usual = folder if has_images else None
    found = source.folder(usual)
    images: list[LabeledImage] = []
    listed_names = set(chosen or ())
    for path in paths:
        place = path.relative_to(folder).with_suffix("")
        if chosen is not None and place.as_posix() not in chosen:
            continue
        listed_names.discard(place.as_posix())
        try:
            root = read_xml(path)
        except InputError as error:
            source.report.error(str(error))
            continue
        if root.tag != "annotation":
            source.report.error(f"{path}: the root is <{root.tag}>, expected <annotation>")
            continue
        images += _image(root, str(path), place, found, source)
    images += found.rest() if chosen is None else []
    for name in sorted(listed_names):
        text = f"names of {source.split}.txt without a label file, which are left out"
        source.notes.add(text, name)
    names = sorted({each.name for image in images for each in image.objects})
    return Labels(names, images, found.root)


def _chosen(source: Source) -> set[str] | None:
    if source.split is None:
        return None
    file = source.path / SPLITS / f"{source.split}.txt"
    if not file.is_file():
        raise InputError(
            f"there is no {file}; lists there: {listed(splits(source.path)) or 'none'}", "split"
        )
    return {line.split()[0] for line in read_text(file).splitlines() if line.strip()}


def _image(
    root: Element, where: str, place: Path, found: Any, source: Source
) -> list[LabeledImage]:
    name = root.findtext("filename") or ""
    below = str(PurePosixPath(place.parent.as_posix(), name)) if name else ""
    sides = [number(root.findtext(f"size/{side}")) for side in ("width", "height")]
    size = (int(sides[0]), int(sides[1])) if all(side >= 1 for side in sides) else None
    candidates = [name, below] if "/" in name else [below, name]
    image = found.take(where, [*candidates, place.as_posix()], size)
    if image is None:
        return []
    for entry in root.iter("object"):
        box = entry.find("bndbox")
        if box is None:
            source.notes.add("objects without a <bndbox>, which are left out", where)
            continue
        x1, y1, x2, y2 = (number(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
        name = (entry.findtext("name") or "").strip()
        image.objects.append(LabeledObject(name, (x1 - 1, y1 - 1, x2, y2)))
        for mark in ("difficult", "truncated", "occluded"):
            if (entry.findtext(mark) or "0").strip() not in ("0", ""):
                source.notes.add(f"objects marked {mark}, which is not read", where)
        for shape in ("polygon", "mask", "part"):
            if entry.find(shape) is not None:
                source.notes.add(f"objects with a <{shape}>, which is not read", where)
    return [image]


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write Annotations/ with a file for each image; boxes are rounded to whole pixels."""
    for image, name in zip(labels.images, label_names(labels.images, ".xml"), strict=True):
        yield f"{ANNOTATIONS}/{name}", partial(_text, image)


def _text(image: LabeledImage) -> str:
    root = Element("annotation")
    add(root, "folder", IMAGES)
    add(root, "filename", image.name)
    size = add(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        add(size, key, value)
    add(root, "segmented", 0)
    for found in image.objects:
        entry = add(root, "object")
        add(entry, "name", found.name)
        add(entry, "pose", "Unspecified")
        add(entry, "truncated", 0)
        add(entry, "difficult", 0)
        box = add(entry, "bndbox")
        (x1, x2), (y1, y2) = (
            _pixels(found.box[::2], image.width),
            _pixels(found.box[1::2], image.height),
        )
        for key, value in (("xmin", x1), ("ymin", y1), ("xmax", x2), ("ymax", y2)):
            add(box, key, value)
    return xml_text(root)


def _pixels(ends: Any, side: int) -> tuple[int, int]:
    """The first and the last pixel between two ends, from 1; at least one."""
    first = min(max(_rounded(ends[0]) + 1, 1), side)
    return first, min(max(_rounded(ends[1]), first), side)


def _rounded(value: float) -> int:
    return floor(value + 0.5)
