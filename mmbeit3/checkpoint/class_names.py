"""What a checkpoint says of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmbeit3.utils import InputError

MAX_LENGTH = 1000  # characters of a name; pictures are labeled with it


def dataset_meta_of(meta: Any) -> dict[str, Any]:
    """Give ``dataset_meta`` of a checkpoint's ``meta``: ``classes``, ``palette`` and the like.

    Args:
        meta: What is in the file under ``meta``.

    Returns:
        Empty if there is none. ``classes``, if it is there, is a list or tuple of texts or numbers.

    Raises:
        InputError: It is there, and names no classes.
    """
    found = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    if not found:
        return {}
    is_known = isinstance(found, Mapping)
    classes = found.get("classes") if is_known else found
    if not (is_known and (classes is None or _are_names(classes))):
        raise InputError(
            f"the checkpoint's meta.dataset_meta names the classes as {classes!r:.60}; expected a "
            f"list of texts of at most {MAX_LENGTH:,} characters. Publish it anew with the names "
            "that it was trained on, or take another file"
        )
    return dict(found)


def _are_names(classes: Any) -> bool:
    return isinstance(classes, (list, tuple)) and all(
        isinstance(name, (str, int)) and len(str(name)) <= MAX_LENGTH for name in classes
    )
