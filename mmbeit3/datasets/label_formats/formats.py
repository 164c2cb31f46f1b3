"""The table of formats, and reading and writing by it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pycocotools import mask as mask_api

from mmbeit3.datasets.checks.coco import raise_on_errors, read_json
from mmbeit3.datasets.label_formats import (
    coco,
    cvat,
    geojson,
    label_studio,
    labelme,
    png,
    predictions,
    table,
    voc,
    yolo,
)
from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    box_of,
    check_labels,
)
from mmbeit3.datasets.label_formats.outlines import rle_of, simplified
from mmbeit3.datasets.label_formats.xml_files import read_xml
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.similar_paths import similar_files
from mmbeit3.utils.whole_files import whole_file, write_whole

Written = Iterator[tuple[str, Callable[[], str | bytes]]]
"""Files: the path of each below the place to write, '' for that place itself, and its content."""


def _one_file(path: Path) -> list[Path]:
    return [path]


def _no_splits(path: Path) -> list[str]:
    return []


@dataclass(frozen=True)
class Format:
    """How labels are kept in files.

    Attributes:
        title: What a person calls it.
        read: Reads it; None if it is only written.
        write: Writes it: takes the labels, the place, and notes; None if it is only read.
        holds: What else than boxes it can hold: 'masks', 'boxes' beside masks, 'scores', 'crowds',
            and 'classes' of which there is no object.
        is_file: Whether all labels are in one file.
        images: Where it wants the images, below the folder that is written; None if nowhere.
        outlines: Whether its masks are outlines that people correct, so that those of predictions
            get few points.
        files: Lists the label files of a place, which are watched for changes.
        splits: Lists the parts of the data set in a place.
    """

    title: str
    read: Callable[[Source], Labels] | None
    write: Callable[[Labels, Path, Notes], Written] | None
    holds: frozenset[str]
    is_file: bool = False
    images: str | None = None
    outlines: bool = False
    files: Callable[[Path], list[Path]] = _one_file
    splits: Callable[[Path], list[str]] = _no_splits


def _holds(words: str) -> frozenset[str]:
    return frozenset(words.split())


FORMATS = {
    "coco": Format(
        "COCO", coco.read, coco.write, _holds("masks boxes scores crowds classes"), is_file=True
    ),
    "voc": Format(
        "Pascal VOC",
        voc.read,
        voc.write,
        _holds(""),
        images=voc.IMAGES,
        files=voc.files,
        splits=voc.splits,
    ),
    "yolo": Format(
        "YOLO",
        yolo.read,
        yolo.write,
        _holds("masks classes"),
        images="images",
        outlines=True,
        files=yolo.files,
        splits=yolo.splits,
    ),
    "labelme": Format(
        "LabelMe", labelme.read, labelme.write, _holds("masks"), images=".", files=labelme.files
    ),
    "csv": Format("CSV", table.read, table.write, _holds("scores"), is_file=True),
    "geojson": Format(
        "GeoJSON",
        geojson.read,
        geojson.write,
        _holds("masks boxes scores crowds"),
        outlines=True,
        files=geojson.files,
    ),
    "label-studio": Format(
        "Label Studio",
        label_studio.read,
        label_studio.write,
        _holds("masks scores classes"),
        is_file=True,
        outlines=True,
    ),
    "cvat": Format(
        "CVAT", cvat.read, cvat.write, _holds("masks classes"), is_file=True, outlines=True
    ),
    "png": Format("PNG", None, png.write, _holds("masks crowds classes")),
    "infer": Format("mmbeit3 infer", predictions.read, None, _holds("masks scores classes")),
}
WRITTEN = [name for name, each in FORMATS.items() if each.write]
FILE_NAMES = {  # what a file of each is called in a folder of its own
    "coco": "labels.json",
    "csv": "labels.csv",
    "label-studio": "tasks.json",
    "cvat": "annotations.xml",
}
READ = [name for name, each in FORMATS.items() if each.read]
OF_SUFFIX = {".csv": "csv", ".tsv": "csv", ".geojson": "geojson", ".yaml": "yolo", ".yml": "yolo"}


def guess_format(path: Path) -> str:
    """Tell the format of a file or a folder by what is in it.

    Raises:
        InputError: There is nothing, or it may be of several formats.
    """
    if path.is_dir():
        found = _guess_folder(path)
    elif path.is_file():
        found = OF_SUFFIX.get(path.suffix.lower()) or _guess_file(path)
    else:
        raise InputError(f"there is no file or folder {path}{similar_files(path)}")
    if found is None:
        raise InputError(
            f"{path}: its format cannot be told; name it, one of {listed(READ)}", "from"
        )
    return found


def _guess_folder(path: Path) -> str | None:
    if predictions.is_run(path):
        return "infer"
    if png.is_written(path):
        raise InputError(
            f"{path} has class maps (masks/*.png), which tell no objects apart: a segmentor is "
            "trained on them, by mmbeit3 new-config --images DIR --masks DIR --classes classes.txt"
        )
    if yolo.find_yaml(path) or yolo.find_list(path):
        return "yolo"
    if (path / voc.ANNOTATIONS).is_dir() and any((path / voc.ANNOTATIONS).rglob("*.xml")):
        return "voc"
    kinds = set()
    for pattern in ("*.geojson", "*.json", "*.xml"):
        first = next(iter(sorted(path.rglob(pattern))), None)
        kinds |= {OF_SUFFIX.get(first.suffix) or _guess_file(first)} if first else set()
    kinds -= {None}
    of_folders = [name for name in kinds if name and not FORMATS[name].is_file]
    return of_folders[0] if len(of_folders) == 1 else None


def _guess_file(path: Path) -> str | None:
    if path.suffix.lower() == ".xml":
        return {"annotations": "cvat", "annotation": "voc"}.get(read_xml(path).tag)
    if path.suffix.lower() != ".json":
        return None
    content = read_json(path, cure="give a file of labels")
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        return "coco"
    recognize = {
        "labelme": labelme.is_labels,
        "geojson": geojson.is_labels,
        "label-studio": label_studio.is_labels,
    }
    return next((name for name, is_labels in recognize.items() if is_labels(content)), None)


def read_labels(
    path: str | Path,
    name: str | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    score_thr: float | None = None,
) -> Labels:
    """Read labels.

    Args:
        path: A file, or a folder.
        name: Its format, of :data:`FORMATS`. Defaults to None: it is told by what is there.
        images: The folder of the images. Defaults to None: where the format has them; labels of
            some need none.
        split: The part of the data set, such as 'train'. Defaults to None, all.
        score_thr: Leave out predictions of a lower score. Defaults to None: of the results of
            ``mmbeit3 infer`` those below the score of the run, else none.

    Raises:
        InputError: They cannot be read; entries that are wrong are named.
    """
    path = Path(path).expanduser()
    name = name or guess_format(path)
    kind = FORMATS[name]
    if kind.read is None:
        raise InputError(f"is {name}, which is only written; read one of {listed(READ)}", "from")
    if not path.exists():
        raise InputError(f"there is no file or folder {path}{similar_files(path)}")
    if kind.is_file and path.is_dir():
        raise InputError(f"{path} is a folder; the labels of {kind.title} are a file: name it")
    if split is not None and split not in kind.splits(path):
        there = listed(kind.splits(path)) or "none"
        raise InputError(f"is {split}; parts that {path} names: {there}", "split")
    source = Source(path, None if images is None else Path(images).expanduser(), split, score_thr)
    if source.images is not None and not source.images.is_dir():
        similar = similar_files(source.images)
        raise InputError(f"there is no folder {source.images}{similar}", "images")
    try:
        labels = kind.read(source)
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    check_labels(labels, source.report)
    raise_on_errors(source.report, str(path), f"data set of {kind.title}")
    if score_thr is not None:
        for image in labels.images:
            image.objects = [
                found for found in image.objects if found.score is None or found.score >= score_thr
            ]
    labels.notes += source.notes.lines()
    if not labels.images:
        raise InputError("\n  ".join([f"{path} has no labels of {kind.title}", *labels.notes]))
    return labels


def write_labels(
    labels: Labels,
    path: str | Path,
    name: str,
    overwrite: bool = False,
    copy_images: bool = False,
) -> list[str]:
    """Write labels.

    Args:
        labels: The labels.
        path: The file, or the folder, that is made.
        name: The format, of :data:`WRITTEN`.
        overwrite: Whether files that are there may be replaced. Defaults to False.
        copy_images: Whether to copy the images to where the format wants them. Defaults to False.

    Returns:
        What a person should know: what the format does not hold, each kind with its number.

    Raises:
        InputError: Files are there already, or cannot be written.
    """
    path, kind, notes = Path(path).expanduser(), FORMATS[name], Notes()
    if kind.write is None:
        raise InputError(f"{kind.title} is only read; write one of {listed(WRITTEN)}", "to")
    images = _image_copies(labels, path, kind) if copy_images else []
    labels = simplified(labels) if kind.outlines and labels.are_predictions else labels
    files = list(_files(labels, path, kind, notes))
    there = [file for file, _ in [*files, *((copy, None) for copy, _ in images)] if file.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more files" if len(there) > 1 else ""
        raise InputError(
            f"is needed to replace {there[0]}{more}; nothing was written. Or name another place",
            "overwrite",
        )
    for copy, original in images:
        with whole_file(copy) as partial:
            shutil.copyfile(original, partial)
    for file, content in files:
        write_whole(file, content())
    return [*_losses(labels, kind), *notes.lines()]


def _files(
    labels: Labels, path: Path, kind: Format, notes: Notes
) -> Iterator[tuple[Path, Callable[[], str | bytes]]]:
    """The files to write, and the content of each."""
    if path.exists() and path.is_dir() == kind.is_file:
        raise InputError(f"{path} is a {'folder' if kind.is_file else 'file'}; name another place")
    assert kind.write is not None
    for file, content in kind.write(labels, path, notes):
        yield (path.with_name(file) if kind.is_file else path / file) if file else path, content


def _image_copies(labels: Labels, path: Path, kind: Format) -> list[tuple[Path, Path]]:
    """Where each image goes, and where it lies."""
    if kind.images is None:
        raise InputError(
            f"is not for {kind.title}, which has no place for images: leave it out", "copy_images"
        )
    if labels.root is None:
        raise InputError("needs the folder of the images: name it by images", "copy_images")
    pairs = [(path / kind.images / image.name, labels.root / image.name) for image in labels.images]
    if absent := [original for _, original in pairs if not original.is_file()]:
        raise InputError(f"{len(absent)} images are absent, the first: {absent[0]}", "images")
    return [pair for pair in pairs if pair[0].absolute() != pair[1].absolute()]


def _losses(labels: Labels, kind: Format) -> Iterator[str]:
    """Say what a format does not hold of the labels."""
    objects = list(labels.objects())
    counts: Counter[str] = Counter()
    for found in objects:
        counts["masks"] += found.mask is not None
        counts["scores"] += found.score is not None
        counts["crowds"] += found.is_crowd
        wide = found.mask is not None and "masks" in kind.holds and "boxes" not in kind.holds
        counts["boxes"] += wide and _is_apart(found)
    empty = set(labels.classes) - {found.name for found in objects}
    texts = {
        "masks": "objects with a mask, of which {} holds the box alone",
        "scores": "objects with a score, which {} does not hold",
        "crowds": "crowds, which {} does not tell from single objects",
        "boxes": "boxes more than a pixel off their mask, of which {} holds the mask alone",
    }
    for key, text in texts.items():
        if counts[key] and key not in kind.holds:
            yield f"{text.format(kind.title)}: {counts[key]}"
    if empty and "classes" not in kind.holds:
        yield (
            f"classes without an object, of which {kind.title} has no list: {len(empty)} "
            f"({listed(sorted(empty), 3)})"
        )


def _is_apart(found: LabeledObject) -> bool:
    """Whether a box is not that of the mask, to a pixel."""
    if isinstance(found.mask, list):
        around = box_of(found.mask)
    else:
        code = rle_of(found, LabeledImage("", *reversed(found.mask["size"]))) if found.mask else {}
        x, y, width, height = mask_api.toBbox(code).tolist()
        around = (x, y, x + width, y + height)
    return any(abs(here - there) > 1 for here, there in zip(found.box, around, strict=True))
