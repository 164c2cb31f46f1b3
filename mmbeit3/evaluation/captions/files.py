"""Reading what captions are scored by: references, and results in COCO's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import path as osp
from pathlib import Path
from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, text_problem
from mmbeit3.datasets.checks.coco import (
    Report,
    is_id,
    is_text,
    kind_of,
    missing_key,
    raise_on_errors,
    read_json,
    shortened,
)
from mmbeit3.datasets.coco_captions import read_coco_captions
from mmbeit3.datasets.image_text_table import ImageTextTableDataset
from mmbeit3.datasets.karpathy import KarpathyDataset
from mmbeit3.datasets.table_rows import read_rows
from mmbeit3.utils import InputError, listed, warn
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.tables import without_apostrophe

Id = int | str
References = Mapping[Id, Sequence[str]] | str | Path
Results = Mapping[Id, str] | Sequence[Mapping[str, Any]] | str | Path
RESULTS_KIND = "file of caption results"


def read_references(source: References, split: str = "test") -> list[CaptionedImage]:
    """Read the captions that people wrote.

    Args:
        source: Captions by image id; or a file: COCO's format (images may lack names), Karpathy's
            (``dataset_coco.json``), or a table as :class:`mmbeit3.ImageTextTableDataset` reads it.
        split: Of Karpathy's files, which images. Defaults to 'test'.

    Raises:
        InputError: It cannot be used, or an image has no caption.
    """
    report = Report()
    _check_path(source)
    if isinstance(source, Mapping):
        images = _of_mapping(source, report)
    elif Path(source).suffix.lower() != ".json":
        images = ImageTextTableDataset(ann_file=str(source), lazy_init=True).read(report)
    else:
        data = read_json(source)
        entries = data.get("images") if isinstance(data, dict) else None
        first = entries[0] if isinstance(entries, list) and entries else None
        if isinstance(first, dict) and "sentences" in first:
            images = KarpathyDataset(split, ann_file=str(source), lazy_init=True).read(report)
        else:
            images = read_coco_captions(data, report, require_files=False)
    if not images and not report.num_errors:
        report.error("there are none")
    for image in images:
        if not image.texts:
            report.error(f"{image.place}: it has no caption to compare with")
    name = "the references" if isinstance(source, Mapping) else str(source)
    raise_on_errors(report, name, "file of reference captions")
    return images


def _check_path(source: Any) -> None:
    """Say that a file is absent in words that do not speak of a data set, as its reader does."""
    if isinstance(source, (str, Path)) and not osp.exists(source):
        raise InputError(
            f"there is no file {source}; check the path{describe_similar(str(source))}"
        )


def _of_mapping(captions: Mapping[Id, Sequence[str]], report: Report) -> list[CaptionedImage]:
    images = []
    for number, texts in captions.items():
        place = f"image {shortened(number)}"
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            report.error(f"{place}: the captions are {shortened(texts)}, expected a list of texts")
            continue
        images.append(CaptionedImage(number, str(number), place, list(texts)))
    return images


def read_results(
    source: Results, images: Sequence[CaptionedImage], answered_only: bool = False
) -> dict[Id, str]:
    """Read the captions of a model, one for each image.

    Args:
        source: Captions by image id, or a list of ``image_id`` and ``caption``, or a JSON file of
            such a list, as COCO's server takes it; or a table of ``file_name`` and ``caption``, as
            ``mmbeit3 infer`` writes it, whose names must be those of the references.
        images: The images with references.
        answered_only: Whether images may lack a caption. Defaults to False.

    Returns:
        Captions by image id, in the order of the references.

    Raises:
        InputError: An entry cannot be used, is of no image of the references, or is the second of
            its image; or images have none.
    """
    report = Report()
    _check_path(source)
    if isinstance(source, Mapping):
        entries: Any = [{"image_id": key, "caption": text} for key, text in source.items()]
        name = "the results"
    elif isinstance(source, (str, Path)) and Path(source).suffix.lower() != ".json":
        entries, name = _of_table(str(source), images, report), str(source)
    elif isinstance(source, (str, Path)):
        entries, name = read_json(source), str(source)
    else:
        entries, name = source, "the results"
    known = {image.image_id for image in images}
    captions: dict[Id, str] = {}
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        hint = "; are the two files swapped?" if isinstance(entries, dict) else ""
        report.error(
            f"the top level is {kind_of(entries)}, expected a list of image_id and caption{hint}"
        )
        entries = []
    for index, entry in enumerate(entries):
        problem = _result_problem(entry, known, captions)
        if problem:
            report.error(f"results[{index}]: {problem}")
        else:
            captions[entry["image_id"]] = entry["caption"]
    raise_on_errors(report, name, RESULTS_KIND)
    _check_missing(captions, images, name, answered_only)
    _warn_of_empty(captions, name)
    return {
        image.image_id: captions[image.image_id] for image in images if image.image_id in captions
    }


def _of_table(path: str, images: Sequence[CaptionedImage], report: Report) -> list[dict[str, Any]]:
    """Give the captions of a table the ids of the images that have the names."""
    numbers: dict[str, Id | None] = {}
    for image in images:
        file = osp.normpath(image.file.replace("\\", "/"))
        for name in {file, osp.basename(file)}:  # folders may be left out where that is clear
            numbers[name] = None if name in numbers else image.image_id
    columns = {name: name for name in ("file_name", "caption")}
    cures = ("name the columns as `mmbeit3 infer` does", "separate them by commas")
    entries, others = [], []
    for line, row in read_rows(path, columns, report, other_formats="or .json", cures=cures):
        file, caption = osp.normpath(str(row["file_name"])), row["caption"]
        if file not in numbers:
            file = osp.normpath(without_apostrophe(file))
        if isinstance(caption, str):
            caption = without_apostrophe(caption)
        number = numbers.get(file)
        if number is not None:
            entries.append({"image_id": number, "caption": caption})
        elif file in numbers:
            report.error(f"line {line}: several images of the references are called {file!r}")
        else:
            others.append(file)
    if others:
        count = f"{len(others):,} captions are of images that are not in the references"
        warn(f"{path}: {count}, and left out: {listed(others, 3)}")
    return entries


def _result_problem(entry: Any, known: set, captions: Mapping[Id, str]) -> str | None:
    if problem := missing_key(entry, ("image_id", "caption")):
        return problem
    number, caption = entry["image_id"], entry["caption"]
    if not (is_id(number) or isinstance(number, str)):
        return f"image_id is {shortened(number)}, expected an integer (64 bits)"
    if not isinstance(caption, str) or not is_text(caption):
        return text_problem(caption)
    if number not in known:
        is_other_type = any(type(number) is not type(one) for one in list(known)[:1])
        hint = ", whose ids are of another type" if is_other_type else ""
        return f"image_id {shortened(number)} is not in the references{hint}"
    if number in captions:
        return f"image_id {shortened(number)} is there twice, expected one caption for each image"
    return None


def _check_missing(
    captions: Mapping[Id, str], images: Sequence[CaptionedImage], name: str, answered_only: bool
) -> None:
    missing = [image.image_id for image in images if image.image_id not in captions]
    if not missing:
        return
    found = f"{len(missing):,} of the {len(images):,} images have no caption in {name}: the ids "
    found += listed(missing)
    if not answered_only or not captions:
        raise InputError(
            f"{found}; expected one for each image. Run the model on them; or score the others "
            "alone, whose CIDEr is not comparable, by this option",
            "answered_only",
        )
    warn(f"{found}; they are left out, and CIDEr is not comparable with that of all images")


def _warn_of_empty(captions: Mapping[Id, str], name: str) -> None:
    empty = [number for number, caption in captions.items() if not caption.strip()]
    if empty:
        warn(f"{name}: {len(empty):,} captions are empty, and score 0: the ids {listed(empty)}")
