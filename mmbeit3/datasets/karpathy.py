"""Karpathy's splits of COCO and Flickr30k: ``dataset_coco.json``, ``dataset_flickr30k.json``."""

from __future__ import annotations

from collections import Counter
from os import path as osp
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
from mmbeit3.utils import InputError

# What the file calls the parts of each split; restval is what Karpathy left of COCO's validation.
SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}


@DATASETS.register_module()
class KarpathyDataset(ImageTextDataset):
    """One of Karpathy's splits: ``images`` of ``filename``, ``split``, ``sentences`` with ``raw``.

    COCO's file also has ``filepath`` (train2014, val2014), the folder of an image below
    ``data_prefix.img``. An image's id is ``cocoid``, or else ``imgid``; a caption's ``sentid``.

    Args:
        split (str): 'train' (of COCO with restval, as in the released code), 'val' or 'test'.
        **kwargs: As in :class:`mmbeit3.datasets.image_text.ImageTextDataset`, which also says what
            the items are.
    """

    kind = "file of Karpathy's splits"

    def __init__(self, split: str, **kwargs: Any) -> None:
        if split not in SPLITS:
            raise InputError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")
        self.split = split
        super().__init__(**kwargs)

    def read(self, report: Report) -> list[CaptionedImage]:
        """Read the images of the split, each with its captions; see the base class."""
        data = read_json(self.ann_file)
        entries = data.get("images") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            report.error(
                "the top level has no list 'images': Karpathy's files have 'images' with "
                "'sentences'; captions in COCO's own format are read by mmbeit3.CocoCaptionsDataset"
            )
            return []
        images: dict[int | str, CaptionedImage] = {}
        sentences: set[int] = set()
        splits: Counter[str] = Counter()
        for index, entry in enumerate(entries):
            problem = _image_problem(entry)
            if problem is None:
                splits[entry["split"]] += 1
                if entry["split"] not in SPLITS[self.split]:
                    continue
                if _id_of(entry) in images:
                    problem = "another image has the same id"
            place = f"images[{index}]"
            if problem:
                report.error(f"{place}: {problem}")
                continue
            image = _with_sentences(entry, place, sentences, report)
            images[image.image_id] = image
        if not images and not report.num_errors:
            has = ", ".join(f"{name} ({count})" for name, count in splits.items()) or "none"
            report.error(f"no image is of the split {self.split!r}; the file has: {has}")
        return list(images.values())


def _id_of(entry: dict) -> Any:
    return entry.get("cocoid", entry.get("imgid"))


def _image_problem(entry: Any) -> str | None:
    if problem := missing_key(entry, ("filename", "split", "sentences")):
        return problem
    if not is_id(_id_of(entry)):
        return f"cocoid or imgid is {shortened(_id_of(entry))}, expected an integer (64 bits)"
    for key in ("filename", "split", "filepath"):
        if not is_text(entry.get(key, "")):
            return f"{key} is {shortened(entry[key])}, expected a name"
    known = [name for names in SPLITS.values() for name in names]
    if entry["split"] not in known:
        return f"split is {entry['split']!r}, expected one of {', '.join(known)}"
    if not isinstance(entry["sentences"], list):
        return f"sentences is {kind_of(entry['sentences'])}, expected a list"
    return None


def _with_sentences(entry: dict, place: str, sentences: set[int], report: Report) -> CaptionedImage:
    """Make an image of its entry, and note the ids of its sentences."""
    file = osp.join(entry.get("filepath", ""), entry["filename"])
    image = CaptionedImage(_id_of(entry), file, f"{place} ({shortened(file)})")
    for index, sentence in enumerate(entry["sentences"]):
        problem = missing_key(sentence, ("raw", "sentid"))
        if problem is None and not is_id(sentence["sentid"]):
            problem = f"sentid is {shortened(sentence['sentid'])}, expected an integer (64 bits)"
        if problem is None and sentence["sentid"] in sentences:
            problem = f"another sentence has the same sentid {sentence['sentid']}"
        problem = problem or text_problem(sentence["raw"], "raw")
        if problem:
            report.error(f"{image.place}: sentences[{index}]: {problem}")
            continue
        sentences.add(sentence["sentid"])
        image.texts.append(sentence["raw"])
        image.text_ids.append(sentence["sentid"])
    return image
