"""Labels from one format to another."""

from __future__ import annotations

from pathlib import Path

from mmbeit3.datasets.label_formats import (
    FORMATS,
    WRITTEN,
    guess_format,
    read_labels,
    write_labels,
)
from mmbeit3.datasets.label_formats.staleness import source_of
from mmbeit3.utils import InputError, listed

OF_SUFFIX = {".csv": "csv", ".xml": "cvat"}


def convert_labels(
    source: str | Path,
    target: str | Path,
    source_format: str | None = None,
    target_format: str | None = None,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    score_thr: float | None = None,
    copy_images: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Convert the labels of a data set, or what a detector has found.

    Args:
        source: A file or a folder, also the output folder of ``mmbeit3 infer``.
        target: The file or the folder to write.
        source_format: Its format, see :data:`mmbeit3.datasets.label_formats.FORMATS`. Defaults to
            None: it is told by what is there.
        target_format: The format to write. Defaults to None: it is told by the suffix.
        images: The folder of the images. Defaults to None: where the format has them.
        split: The part of the data set to read, such as 'train'. Defaults to None, all.
        score_thr: Leave out predictions of a lower score. Defaults to None: that of the run.
        copy_images: Whether to copy the images to where the format wants them. Defaults to False.
        overwrite: Whether files that are there may be replaced. Defaults to False.

    Returns:
        What was left out, and what was written, for a person.

    Raises:
        InputError: The labels cannot be read, or files are there already.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    to = target_format or OF_SUFFIX.get(target.suffix.lower())
    if to is None:
        raise InputError(f"is needed for {target}: one of {listed(WRITTEN)}", "to")
    name = source_format or guess_format(source)
    labels = read_labels(source, name, images, split, score_thr)
    if to == "coco" and name not in ("coco", "infer"):
        labels.source = source_of(source, name, target)
    notes = [*labels.notes, *write_labels(labels, target, to, overwrite, copy_images)]
    place = FORMATS[to].images
    if place and place != "." and not copy_images and not (target / place).is_dir():
        notes.append(f"the images belong into {target / place}; --copy-images puts them there")
    number = sum(1 for _ in labels.objects())
    return [
        *notes,
        f"wrote {target} ({FORMATS[to].title}): {number} objects of {len(labels.classes)} classes "
        f"in {len(labels.images)} images, from {FORMATS[name].title}",
    ]
