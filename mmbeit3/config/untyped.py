"""Misspelled keys of dicts without a type, whose readers ignore what they do not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

# What is read from them, by the key of the dict. A head or a data set of the user's may read more:
# only near misspellings of these are refused.
OF_OUR_MODELS = {
    "rpn": (
        *("assigner", "sampler", "allowed_border", "pos_weight", "debug"),
        *("nms_pre", "nms_post", "max_per_img", "min_bbox_size", "nms"),
    ),
    "rpn_proposal": ("nms_pre", "nms_post", "max_per_img", "min_bbox_size", "nms"),
    "rcnn": (
        *("assigner", "sampler", "mask_size", "pos_weight", "debug"),
        *("score_thr", "nms", "max_per_img", "mask_thr_binary"),
    ),
    "train_cfg": ("rpn", "rpn_proposal", "rcnn"),
    "test_cfg": ("rpn", "rcnn", "mode", "stride", "crop_size", "window_batch_size"),
}
OF_DATA_SETS = {"metainfo": ("classes", "palette")}
# All that mmbeit3.CocoDataset reads; another key would leave the base's value in force.
OF_OUR_COCO = {"filter_cfg": ("filter_empty_gt", "min_size"), "data_prefix": ("img", "seg")}
COCO_TYPE = "mmbeit3.CocoDataset"
SIMILAR = 0.75
SHORTEST_START = 5  # letters that a name and its longer form share


def misspelled_keys(place: str, node: Mapping[str, Any], is_our_model: bool) -> Iterator[str]:
    """Find misspelled keys of the dicts without a type in one dict of a config.

    Args:
        place: Its dotted key.
        node: The dict.
        is_our_model: Whether the config's model is one of this project's.

    Yields:
        A sentence about each.
    """
    exact = OF_OUR_COCO if node.get("type") == COCO_TYPE else {}
    in_model = is_our_model and place.partition(".")[0] == "model"
    near = OF_DATA_SETS | (OF_OUR_MODELS if in_model else {})
    for key, value in node.items():
        known = exact.get(key) or near.get(key) or ()
        for where, inner in _dicts(f"{place}.{key}", value) if known else ():
            for name in inner:
                if name in known or "type" in inner:
                    continue
                if close := _closest(name, known):
                    yield f"{where} has no key {name!r}; did you mean {close!r}?"
                elif key in exact:
                    yield f"{where} has no key {name!r}; {COCO_TYPE} reads {', '.join(known)}"


def _dicts(place: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield place, value
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _dicts(f"{place}.{index}", entry)


def _closest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=SIMILAR)
    for other in known:
        shorter, longer = sorted((other, name.lower()), key=len)
        if len(shorter) >= SHORTEST_START and longer.startswith(shorter):
            close.append(other)
    return close[0] if close else ""
