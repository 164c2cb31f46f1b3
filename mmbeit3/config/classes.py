"""The classes of a config: names for all its data sets, and their number for its heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import path as osp
from typing import Any

from mmengine.config import Config, ConfigDict

from mmbeit3.checkpoint import dataset_meta_of
from mmbeit3.config.datasets import (
    COCO_TYPE,
    SEG_FOLDER_TYPE,
    data_path,
    dataset_class,
    find_datasets,
)
from mmbeit3.config.origin import set_by_user
from mmbeit3.config.types import TypeFinder
from mmbeit3.datasets.coco import describe_missing
from mmbeit3.utils import InputError, compare_classes, listed, warn
from mmbeit3.utils.errors import plural
from mmbeit3.utils.text_files import read_text

CHECKPOINT = "the checkpoint"  # what the source of its classes is called
# Parts of a model whose ``num_classes`` is that of the data; the RPN's (always 1) is in none.
CLASS_HEADS = ("roi_head", "bbox_head", "mask_head", "decode_head", "auxiliary_head")


def resolve_classes(
    cfg: Config, checkpoint_meta: Mapping[str, Any] | None = None
) -> tuple[str, ...] | None:
    """Give all data sets the training classes, and the heads their number, in place.

    It concerns data sets whose class has ``read_class_names``, as all of this project. Their
    classes are, in this order: those that the config's training set names
    (``metainfo=dict(classes=...)``), those that the checkpoint was trained on, those of the
    training annotation file, of ``classes_file``, or of the type (ADE20K's 150, COCO-Stuff's 171);
    in a test where none of these can be read, those of the test set.
    Every such data set that names none gets them, so that one with other categories is found out;
    one that names others, or the same in another order, is an error. ``num_classes`` under
    ``roi_head``, ``bbox_head``, ``mask_head``, ``decode_head`` and ``auxiliary_head``, and of a
    classifier itself, follows, and with it the list ``loss_cls.class_weight`` of a head with a
    weight for "no object" (Mask2Former). A ``mmbeit3.SegFolderDataset`` that leaves
    ``reduce_zero_label`` open follows the training set, or else the checkpoint.

    A model with ``class_embeddings``, or whose class has ``reads_class_names``, is given the names
    as well. Its data sets may name classes of their own, other than those of training and
    checkpoint: it gets them when they are tested.

    Args:
        cfg: The config.
        checkpoint_meta: The checkpoint's ``meta``, at test time. Defaults to None.

    Returns:
        The classes, or None when the config has no such data set.

    Raises:
        InputError: The file with the classes is absent or malformed, a data set has other classes
            than the first, or class weights that differ are for another number of classes.
    """
    datasets = find_datasets(cfg)
    if not datasets:
        return None
    dataset_meta = dataset_meta_of(checkpoint_meta)
    try:
        source, classes = _training_classes(*datasets[0], dataset_meta.get("classes"))
    except InputError as error:
        if checkpoint_meta is None:
            raise
        source, classes = _tested_classes(datasets, error)
    takes_words = _takes_words(cfg)
    of_checkpoint = dataset_meta.get("classes")
    if of_checkpoint and not takes_words:
        _check_same(source, classes, CHECKPOINT, tuple(of_checkpoint), datasets[0][1])
    for place, dataset in datasets:
        if not (takes_words and _has_others(dataset, classes)):
            if source == CHECKPOINT and place.startswith("test_"):
                _check_in_file(dataset, classes)
            _give_classes(place, dataset, source, classes)
    _give_reduction([dataset for _, dataset in datasets], dataset_meta)
    _remark_on_numbers(cfg, len(classes), source)
    _give_model(cfg, classes)
    return classes


def follow_checkpoint(cfg: Config, classes: Sequence[str]) -> None:
    """Give the heads the number of a checkpoint's classes, in place, to predict with it.

    As :func:`resolve_classes`, it concerns configs with a data set of this project. No file of a
    data set is looked at; one that names other classes is remarked on.

    Args:
        cfg: The config.
        classes: The names in the checkpoint.
    """
    datasets = find_datasets(cfg)
    if not datasets:
        return
    _give_model(cfg, tuple(classes))
    named = _named_classes(datasets[0][1])
    if named and named != tuple(classes):
        warn(
            f"{datasets[0][0]}.metainfo.classes is {listed(named, 5)}, but the checkpoint was "
            f"trained on {listed(classes, 5)}, and its names are used"
        )


def _give_model(cfg: Config, classes: tuple[str, ...]) -> None:
    """Give heads the number of classes, and a model that takes words their names, in place."""
    set_num_classes(cfg.model, len(classes), "num_classes" in cfg.model)
    if cfg.model.get("class_embeddings"):
        cfg.model.class_embeddings.classes = classes
    elif _takes_words(cfg):
        cfg.model.class_names = classes


def _takes_words(cfg: Config) -> bool:
    """Whether the model of a config is asked for classes by their names."""
    if cfg.model.get("class_embeddings"):
        return True
    kind = TypeFinder(cfg.get("default_scope")).find(cfg.model.get("type"), ("MODELS",))
    return bool(getattr(kind, "reads_class_names", False))


def _training_classes(
    place: str, dataset: Mapping[str, Any], of_checkpoint: Sequence[str] | None
) -> tuple[str, tuple[str, ...]]:
    """The classes that all data sets must have, and what to call their source in messages."""
    if named := _named_classes(dataset):
        return f"{place}.metainfo.classes", named
    if of_checkpoint:
        return CHECKPOINT, tuple(of_checkpoint)
    key, names = dataset_class(dataset).read_class_names(dataset)
    return f"{place} ({dataset['type']})" if key == "type" else f"{place}.{key}", names


def _tested_classes(
    datasets: Sequence[tuple[str, Mapping[str, Any]]], error: InputError
) -> tuple[str, tuple[str, ...]]:
    """The test set's own classes, where neither checkpoint nor training set names any."""
    for place, dataset in datasets:
        if place.startswith("test_"):
            try:
                source, classes = _training_classes(place, dataset, None)
            except InputError:
                break
            warn(f"the classes are the {len(classes)} of {source}, as elsewhere are none: {error}")
            return source, classes
    raise error


def _check_in_file(dataset: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Make sure that a file to test on has the classes that the checkpoint was trained on."""
    file = data_path(dataset, "ann_file")
    if dataset["type"] != COCO_TYPE or _named_classes(dataset) or not osp.isfile(file):
        return
    _, known = dataset_class(dataset).read_class_names(dataset)
    if lack := describe_missing(classes, known, file):
        raise InputError(
            f"{lack}. The checkpoint was trained on {listed(classes)}: give the config and the "
            "data it was trained with, or rename the categories"
        )


def _give_classes(
    place: str, dataset: dict[str, Any], source: str, classes: tuple[str, ...]
) -> None:
    """Name the training classes in a data set that names none, and compare them with others."""
    own = _own_classes(dataset)
    if named := _named_classes(dataset):
        _check_same(f"{place}.metainfo.classes", named, source, classes, dataset)
    elif own and not set(classes) <= set(own):
        _check_same(f"{place} ({dataset['type']})", own, source, classes, dataset)
    elif classes != own:
        dataset["metainfo"] = ConfigDict(dataset.get("metainfo") or {}, classes=classes)


def _give_reduction(datasets: Sequence[dict[str, Any]], dataset_meta: Mapping[str, Any]) -> None:
    """Have the label maps of all folders read alike, where a config says it of the first only."""
    folders = [dataset for dataset in datasets if dataset["type"] == SEG_FOLDER_TYPE]
    settings = [folder.get("reduce_zero_label") for folder in folders[:1]]
    settings.append(dataset_meta.get("reduce_zero_label"))
    known = next((setting for setting in settings if setting is not None), None)
    for folder in folders if known is not None else ():
        if folder.get("reduce_zero_label") is None:
            folder["reduce_zero_label"] = known


def _check_same(
    place: str,
    found: Sequence[str],
    source: str,
    expected: Sequence[str],
    dataset: Mapping[str, Any],
) -> None:
    word = getattr(dataset_class(dataset), "METAINFO", {}).get("class_word", "class")
    if difference := compare_classes(place, found, source, expected, word):
        raise InputError(
            f"{difference}. Scores are counted by {word} number, so all must have the same "
            f"{plural(word)} in the same order: correct metainfo.classes, or leave it out where "
            "the data set is to follow the training set or the checkpoint"
        )


def _named_classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    named = (dataset.get("metainfo") or {}).get("classes") or ()
    if isinstance(named, str) and osp.isfile(named):
        return tuple(read_text(named).splitlines())
    return (named,) if isinstance(named, str) else tuple(named)


def _has_others(dataset: Mapping[str, Any], classes: tuple[str, ...]) -> bool:
    """Whether a data set names its classes itself, or by its type those that lack some."""
    own = _own_classes(dataset)
    named = _named_classes(dataset) or dataset.get("classes_file")
    return bool(named or (own and not set(classes) <= set(own)))


def _own_classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that are in the code of a data set, of which ``metainfo`` may choose some."""
    return tuple(getattr(dataset_class(dataset), "METAINFO", {}).get("classes", ()))


def _remark_on_numbers(cfg: Config, number: int, source: str) -> None:
    """Say which numbers of classes, set by the user, give way to that of the data."""
    found = dict(_numbers_of_classes(cfg.model, "model", "num_classes" in cfg.model))
    other = [place for place, value in found.items() if value != number]
    if other := set_by_user(cfg, other) if other else []:
        places = ", ".join(f"{place}={found[place]}" for place in other)
        warn(
            f"{places}: becomes {number}, the number of classes of {source}; to train on other "
            "classes name them in train_dataloader.dataset.metainfo.classes"
        )


def _numbers_of_classes(node: Any, place: str, inside: bool = False) -> Iterator[tuple[str, int]]:
    """Dotted key and value of ``num_classes`` of all heads."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, (list, tuple)):
        items = enumerate(node)
    elif isinstance(node, dict):
        items = node.items()
        if inside and "num_classes" in node:
            yield f"{place}.num_classes", node["num_classes"]
    for key, value in items:
        yield from _numbers_of_classes(value, f"{place}.{key}", inside or key in CLASS_HEADS)


def set_num_classes(node: Any, num_classes: int, inside: bool = False) -> None:
    """Set the number of classes of all heads in a part of a config, in place.

    Args:
        node: The part.
        num_classes: The number.
        inside: Whether the part is inside a head. Defaults to False.
    """
    if isinstance(node, (list, tuple)):
        for entry in node:
            set_num_classes(entry, num_classes, inside)
    elif isinstance(node, dict):
        if inside and "num_classes" in node:
            _resize_class_weight(node, num_classes)
            node["num_classes"] = num_classes
        for key, value in node.items():
            set_num_classes(value, num_classes, inside or key in CLASS_HEADS)


def _resize_class_weight(head: dict[str, Any], num_classes: int) -> None:
    """Fit ``loss_cls.class_weight`` with its last entry, "no object", to the classes."""
    loss = head.get("loss_cls") or {}
    weights = loss.get("class_weight")
    if not isinstance(weights, (list, tuple)) or len(weights) != head["num_classes"] + 1:
        return
    if num_classes == head["num_classes"]:
        return
    if len(set(weights[:-1])) > 1:
        raise InputError(
            f"loss_cls.class_weight gives {len(weights) - 1} classes different weights, but there "
            f"are {num_classes} classes; set num_classes={num_classes} in the head, and one weight "
            "for each class and one for 'no object'"
        )
    loss["class_weight"] = [weights[0]] * num_classes + [weights[-1]]
