"""Labels in YOLO's text files, one for each image, with the classes in data.yaml.

A line is a class and a box, ``class x y w h``, or a class and a polygon, ``class x y x y ...``, in
shares of the image's width and height; a last number may be a score.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmbeit3.datasets.label_formats.labels import (
    LabeledImage,
    LabeledObject,
    Labels,
    Notes,
    Source,
    label_names,
    number,
    read_sizes,
)
from mmbeit3.datasets.label_formats.outlines import one_ring, outlines, polygon_object
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.text_files import read_text

SPLITS = ("train", "val", "test")
LISTS = ("classes.txt", "obj.names", "predefined_classes.txt")  # of tools that write no data.yaml
NO_LABELS = {*LISTS, "readme.txt", "README.txt", "notes.txt"}
SLACK = 1e-3  # shares by which rounding may take a coordinate beyond the image


def find_yaml(path: Path) -> Path | None:
    """The file with the classes that a path names or a folder holds; None if there is none."""
    if path.is_file():
        return path if path.suffix in (".yaml", ".yml") else None
    found = [each for kind in ("*.yaml", "*.yml") for each in sorted(path.glob(kind))]
    for name in ("data.yaml", "dataset.yaml"):
        if path / name in found:
            return path / name
    return found[0] if len(found) == 1 else None


def find_list(path: Path) -> Path | None:
    """The list of classes in a folder without a data.yaml; None if there is none."""
    for folder in (path, path / "labels"):
        for name in LISTS:
            if (folder / name).is_file():
                return folder / name
    return None


def splits(path: Path) -> list[str]:
    """The parts that data.yaml names and that are there."""
    file = find_yaml(path)
    content = _yaml(file) if file else {}
    return [name for name in SPLITS if content.get(name)]


def files(path: Path) -> list[Path]:
    """The label files of a data set, and that of its classes."""
    file = find_yaml(path)
    places = [find_list(path)] if file is None else [file]
    names = [None] if file is None else [name for name in SPLITS if _yaml(file).get(name)]
    roots = {
        Path(_labels_of(str(folder)))
        for name in names
        for folder in _image_places(path, file, name)[1]
    }
    texts = {text for root in roots if root.is_dir() for text in root.rglob("*.txt")}
    return sorted({place for place in places if place} | texts)


def read(source: Source) -> Labels:
    """Read a folder with data.yaml, or with classes.txt, images/ and labels/."""
    file = find_yaml(source.path)
    classes = _classes(source.path, file)
    if source.images is not None:
        paths, folders = find_images(source.images), [source.images]
    else:
        paths, folders = _image_places(source.path, file, _split(source, file))
    root = folders[0] if len(folders) == 1 else Path(os.path.commonpath(folders))
    label_root = source.path if source.path.is_dir() else source.path.parent
    used = set()
    images = []
    for path, size in zip(paths, read_sizes(paths, source.report), strict=True):
        name = path.relative_to(root).as_posix()
        text = Path(_labels_of(str(path))).with_suffix(".txt")
        if source.images is not None and not text.is_file():
            text = (label_root / "labels" / name).with_suffix(".txt")
        image = LabeledImage(name, *size, where=str(text))
        used.add(text)
        if text.is_file():
            _read_lines(text, image, classes, source)
        else:
            source.notes.add("images without a label file, which count as empty", name)
        images.append(image)
    # Lists of images may divide the files of a folder.
    stems = {each.stem for folder in {path.parent for path in paths} for each in folder.iterdir()}
    for folder in {text.parent for text in used if text.parent.is_dir()}:
        for text in sorted(set(folder.glob("*.txt")) - used):
            if text.name not in NO_LABELS and text.stem not in stems:
                source.notes.add("label files without an image, which are left out", str(text))
    return Labels(classes, images, root)


def _split(source: Source, file: Path | None) -> str | None:
    """The part to read: the one that was named, or the only one."""
    if file is None or source.split is not None:
        return source.split
    there = splits(source.path)
    if not there:
        raise InputError(f"{file} names no images: set train: FOLDER and val: FOLDER")
    if len({tuple(_image_places(source.path, file, name)[1]) for name in there}) > 1:
        raise InputError(f"is needed: {file} has {listed(there)}, which are apart", "split")
    return there[0]


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} is no data.yaml: expected the keys names, train and val")
    return content


def _classes(path: Path, file: Path | None) -> list[str]:
    if file is None:
        file = find_list(path)
        if file is None:
            raise InputError(
                f"{path} has no list of classes: expected data.yaml with names, or classes.txt"
            )
        names: Any = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    else:
        content = _yaml(file)
        names = content.get("names")
        if content.get("kpt_shape"):
            raise InputError(f"{file} is of a pose data set (kpt_shape), which has keypoints")
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{file}: names is no list of classes, numbered from 0 without a gap")
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{file}: names has {twice!r} twice; classes go by their names")
    return names


def _image_places(
    path: Path, file: Path | None, split: str | None
) -> tuple[list[Path], list[Path]]:
    """The images of a split, sorted, and the folders that they are in."""
    if file is None:
        folder = path / "images" if (path / "images").is_dir() else path
        return find_images(folder), [folder]
    content = _yaml(file)
    entry = content.get(split or "")
    if not entry:
        raise InputError(f"{file} has no {split}; it has {listed(splits(path))}", "split")
    root = file.parent
    stated = content.get("path")
    if stated and not Path(stated).is_absolute():
        root = root / stated if (root / stated).is_dir() else root
    elif stated and Path(stated).is_dir():
        root = Path(stated)
    images: list[Path] = []
    folders: list[Path] = []
    for value in entry if isinstance(entry, list) else [entry]:
        place = _existing(root, str(value), file)
        if place.suffix == ".txt" and place.is_file():
            lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
            listed_images = [Path(os.path.normpath(root / line)) for line in lines]
            images += listed_images
            folders.append(Path(os.path.commonpath([each.parent for each in listed_images])))
        else:
            images += find_images(place)
            folders.append(place if place.is_dir() else place.parent)
    return sorted(set(images)), folders


def _existing(root: Path, value: str, file: Path) -> Path:
    place = Path(os.path.normpath(root / value))
    shortened = Path(os.path.normpath(root / value.removeprefix("../")))  # as Roboflow writes it
    for each in (place, shortened):
        if each.exists():
            return each
    raise InputError(f"{file} names {value}, but there is no {place}: correct it, or path")


def _labels_of(path: str) -> str:
    """Where Ultralytics looks for labels: the last folder images is labels."""
    parts = path.split(os.sep)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            return os.sep.join([*parts[:index], "labels", *parts[index + 1 :]])
    return path


def _read_lines(path: Path, image: LabeledImage, classes: Sequence[str], source: Source) -> None:
    try:
        text = read_text(path)
    except InputError as error:
        source.report.error(str(error))
        return
    size = np.array([image.width, image.height])
    for line_number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        found = _read_line(words, classes, size)
        if isinstance(found, str):
            source.report.error(f"{path}, line {line_number}: {found}")
        else:
            image.objects.append(found)


def _read_line(words: Sequence[str], classes: Sequence[str], size: np.ndarray) -> Any:
    """The object of a line, or what is wrong with it."""
    label, *values = map(number, words)
    if label not in range(len(classes)):
        return (
            f"the class is {words[0]}, expected 0 to {len(classes) - 1}: there are {len(classes)} "
            "names"
        )
    if len(values) < 4:
        return f"{len(words)} numbers, expected class x y w h, or class x y x y x y ..."
    score = values.pop() if len(values) % 2 else None
    points: np.ndarray = np.array(values).reshape(-1, 2)
    if not np.isfinite(points).all():
        return "a word is no finite number"
    name = classes[int(label)]
    if len(points) == 2:
        width, height = points[1]
        if width < 0 or height < 0:
            return f"the box has a negative side: {' '.join(words)}"
        half = np.array([width, height]) / 2
        points = np.stack([points[0] - half, points[0] + half])
    if points.min() < -SLACK or points.max() > 1 + SLACK:
        hint = "; these look like pixels" if points.max() > 2 else ""
        return (
            f"coordinates go from {points.min():.4g} to {points.max():.4g}, expected shares of the "
            f"image from 0 to 1{hint}"
        )
    points = points.clip(0, 1) * size
    if len(points) > 2:
        return polygon_object(name, points, score=score)
    return LabeledObject(name, tuple(points.ravel().tolist()), score=score)


def write(labels: Labels, path: Path, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Write data.yaml and labels/: polygons where objects have masks, else boxes."""
    content = {"train": "images", "val": "images", "names": dict(enumerate(labels.classes))}
    yield "data.yaml", lambda: yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    with_masks = [found.mask is not None for found in labels.objects()]
    numbers = {name: str(index) for index, name in enumerate(labels.classes)}
    for image, name in zip(labels.images, label_names(labels.images, ".txt"), strict=True):
        yield f"labels/{name}", partial(_text, image, numbers, any(with_masks), notes)


def _text(image: LabeledImage, numbers: dict[str, str], as_polygons: bool, notes: Notes) -> str:
    size = np.array([image.width, image.height])
    lines = []
    for found in image.objects:
        box = np.array(found.box, float).reshape(2, 2)
        if box.min() < 0 or (box > size).any():
            notes.add("objects that reach beyond their image, cut at its border", image.name)
        if as_polygons:
            parts = [] if found.mask is None else outlines(found, image)
            if not parts:
                notes.add("objects without a mask, written as the polygon of their box", image.name)
            elif len(parts) > 1 or len(parts[0]) > 1:
                notes.add("masks of several parts or with holes, joined to one polygon", image.name)
            (x1, y1), (x2, y2) = box
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
            values = (one_ring(parts) if parts else corners).clip(0, size) / size
        else:
            low, high = box.clip(0, size) / size
            values = np.stack([(low + high) / 2, high - low])
        words = (f"{value:.8g}" for value in values.ravel().tolist())
        lines.append(" ".join([numbers[found.name], *words]) + "\n")
    return "".join(lines)
