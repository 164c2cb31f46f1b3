"""What a run of ``mmbeit3 infer`` has left in its folder, as labels."""

from __future__ import annotations

from pathlib import Path

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.datasets.label_formats.coco import by_image
from mmbeit3.datasets.label_formats.labels import LabeledImage, LabeledObject, Labels, Source
from mmbeit3.utils import InputError

SUMMARY, RESULTS = "summary.json", "results.json"


def is_run(path: Path) -> bool:
    """Whether a folder holds the results of a detector."""
    return (path / SUMMARY).is_file() and (path / RESULTS).is_file()


def read(source: Source) -> Labels:
    """Read the detections of at least the score that was given, or that of the run."""
    cure = "give the --out-dir of mmbeit3 infer"
    summary = read_json(source.path / SUMMARY, cure)
    results = by_image(read_json(source.path / RESULTS, cure))
    try:
        least = summary["score_thr"] if source.score_thr is None else source.score_thr
        classes = [category["name"] for category in summary["categories"]]
        folder = Path(summary["folder"])
        images = [
            LabeledImage(entry["file_name"], entry["width"], entry["height"])
            for entry in summary["images"]
        ]
        for image, entry in zip(images, summary["images"], strict=True):
            for found in results.get(entry["id"], ()):
                x, y, width, height = map(float, found["bbox"])
                if found["score"] >= least:
                    box = (x, y, x + width, y + height)
                    mask, score = found.get("segmentation"), found["score"]
                    image.objects.append(LabeledObject(found["category"], box, mask, score))
    except (KeyError, TypeError, ValueError) as error:
        text = f"{source.path} holds no results of a detector: {error!r}; {cure}"
        raise InputError(text) from error
    root = source.images or (folder if folder.is_dir() else folder.parent)
    return Labels(classes, images, root, are_predictions=True)
