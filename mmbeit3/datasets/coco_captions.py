"""Captions in COCO's own format: ``captions_train2017.json``, NoCaps' and files like them."""

from __future__ import annotations

from typing import Any

from mmbeit3.datasets.checks.captions import CaptionedImage, text_problem
from mmbeit3.datasets.checks.coco import (
    Report,
    is_id,
    is_text,
    kind_of,
    missing_key,
    read_json,
    shortened,
)
from mmbeit3.datasets.image_text import ImageTextDataset
from mmbeit3.registry import DATASETS


@DATASETS.register_module()
class CocoCaptionsDataset(ImageTextDataset):
    """Captions in COCO's format.

    The file has ``images`` of ``id`` and ``file_name``, and ``annotations`` of ``id``, ``image_id``
    and ``caption``. Width and height of an image may be left out; where they are there, the file
    must have this size. NoCaps' images have a ``domain``, too, and those of its test
    (``nocaps_test_image_info.json``) no annotations: ``require_captions=False`` reads them.
    Arguments and items as in :class:`mmbeit3.datasets.image_text.ImageTextDataset`.
    """

    kind = "COCO caption file"

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images that the file has, each with its captions; see the base class."""
        return read_coco_captions(read_json(self.ann_file), report, self.require_captions)


def read_coco_captions(
    data: Any, report: Report, require_captions: bool = True, require_files: bool = True
) -> list[CaptionedImage]:
    """Read images with captions of the content of a file.

    Args:
        data: The content.
        report: Takes what is wrong with which entry.
        require_captions: Whether the file must have annotations. Defaults to True.
        require_files: Whether images must have names; files of references have ids alone. Defaults
            to True.
    """
    lists = _lists(data, report, require_captions)
    if lists is None:
        return []
    images = _read_images(lists["images"], report, require_files)
    _add_captions(lists["annotations"], images, report)
    return list(images.values())


def _lists(data: Any, report: Report, require_captions: bool) -> dict[str, list] | None:
    if isinstance(data, dict) and not require_captions:
        data = {"annotations": []} | data
    if problem := missing_key(data, ("images", "annotations")):
        hint = "; is this a results file?" if isinstance(data, list) else ""
        if isinstance(data, dict) and "images" in data:
            hint = "; images of a test without captions need require_captions=False of the data set"
        report.error(f"the top level: {problem}, expected 'images' and 'annotations'{hint}")
        return None
    lists = {key: data[key] for key in ("images", "annotations")}
    for key, value in lists.items():
        if key == "annotations" and value == [] and not require_captions:
            continue
        if not isinstance(value, list) or not value:
            found = "empty" if value == [] else kind_of(value)
            report.error(f"'{key}' is {found}, expected a list with entries")
    if report.num_errors:
        return None
    first = next(iter(lists["annotations"]), None)
    if isinstance(first, dict) and "caption" not in first and "bbox" in first:
        report.error(
            "the annotations are boxes, not captions: set ann_file to the caption file, such as "
            "annotations/captions_train2017.json"
        )
        return None
    return lists


def _read_images(entries: list, report: Report, require_files: bool) -> dict[int, CaptionedImage]:
    images: dict[int, CaptionedImage] = {}
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and not require_files:
            entry = {"file_name": "-"} | entry
        problem = _image_problem(entry)
        if problem is None and entry["id"] in images:
            problem = "another image has the same id"
        place = _place("images", index, entry)
        if problem:
            report.error(f"{place}: {problem}")
            continue
        width, height = entry.get("width"), entry.get("height")
        images[entry["id"]] = CaptionedImage(
            entry["id"],
            entry["file_name"],
            place,
            width=width,
            height=height,
            domain=entry.get("domain"),
        )
    return images


def _image_problem(entry: Any) -> str | None:
    if problem := missing_key(entry, ("id", "file_name")):
        return problem
    if not is_id(entry["id"]):
        return f"id is {shortened(entry['id'])}, expected an integer (64 bits)"
    if not is_text(entry["file_name"]) or not entry["file_name"]:
        return f"file_name is {shortened(entry['file_name'])}, expected a name"
    if not isinstance(entry.get("domain", ""), str):
        return f"domain is {shortened(entry['domain'])}, expected a name such as 'near-domain'"
    size = [entry[key] for key in ("width", "height") if entry.get(key) is not None]
    if len(size) == 1 or any(type(value) is not int or value <= 0 for value in size):
        return f"width and height are {shortened(size)}, expected two numbers of pixels or none"
    return None


def _add_captions(entries: list, images: dict[int, CaptionedImage], report: Report) -> None:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        problem = _caption_problem(entry)
        if problem is None and entry["id"] in seen:
            problem = "another annotation has the same id"
        if problem is None and entry["image_id"] not in images:
            problem = f"image_id {entry['image_id']} is not in images"
        if problem:
            report.error(f"{_place('annotations', index, entry)}: {problem}")
            continue
        seen.add(entry["id"])
        image = images[entry["image_id"]]
        image.texts.append(entry["caption"])
        image.text_ids.append(entry["id"])


def _caption_problem(entry: Any) -> str | None:
    if problem := missing_key(entry, ("id", "image_id", "caption")):
        return problem
    for key in ("id", "image_id"):
        if not is_id(entry[key]):
            return f"{key} is {shortened(entry[key])}, expected an integer (64 bits)"
    return text_problem(entry["caption"])


def _place(key: str, index: int, entry: Any) -> str:
    known = isinstance(entry, dict) and "id" in entry
    return f"{key}[{index}]" + (f" (id {shortened(entry['id'])})" if known else "")
