"""Whether labels have changed since a COCO file was made of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from mmbeit3.datasets.label_formats.coco import CONVERTED
from mmbeit3.datasets.label_formats.formats import FORMATS
from mmbeit3.utils import InputError
from mmbeit3.utils.file_stamp import Stamp


def source_of(path: Path, name: str, target: Path) -> dict[str, str]:
    """What a COCO file says of the labels that it was made of.

    Args:
        path: The labels.
        name: Their format.
        target: The COCO file.
    """
    path = path.expanduser().resolve()
    return {"path": str(path), "format": name, "stamp": _stamp(path, name, target)}


def describe_change(data: Any, ann_file: str) -> str | None:
    """Say that the labels of a COCO file are no longer those that it was made of.

    Args:
        data: The content of the file.
        ann_file: The file.

    Returns:
        The warning; None if they have not changed, are gone, or there were none.
    """
    info = data.get("info") if isinstance(data, dict) else None
    source = info.get(CONVERTED) if isinstance(info, dict) else None
    if not isinstance(source, dict):
        return None
    try:
        path, name, stamp = Path(source["path"]), source["format"], source["stamp"]
        if not path.exists() or _stamp(path, name, Path(ann_file)) == stamp:
            return None
    except (TypeError, KeyError, OSError, InputError):
        return None
    return (
        f"the labels in {path} have changed since {ann_file} was made of them: it has the old "
        "ones. Remove the file and make it anew, by mmbeit3 new-config --labels or convert-labels"
    )


def _stamp(path: Path, name: str, target: Path) -> str:
    """A digest of names, sizes and times of label files."""
    target = target.resolve()
    own = target.stem.removesuffix("_labels").removesuffix("_train").removesuffix("_val")
    digest = hashlib.sha256()
    for file in FORMATS[name].files(path):
        # What new-config writes may lie among the labels.
        is_own = file.parent == target.parent and file.suffix == ".json"
        if not (is_own and file.stem.startswith(own)):
            digest.update(
                f"{os.path.relpath(file, path)} {Stamp.of(file)}\n".encode(errors="replace")
            )
    return digest.hexdigest()
