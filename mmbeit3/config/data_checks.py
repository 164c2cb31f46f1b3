"""Checking the data sets of a config before the first step, without building its model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import path as osp
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmbeit3.config.datasets import (
    COCO_TYPE,
    SEG_FOLDER_TYPE,
    data_path,
    dataset_class,
    distinct,
    find_datasets,
    own_datasets,
)
from mmbeit3.config.evaluation_checks import find_evaluation_problems
from mmbeit3.config.mask_checks import boxes_alone, find_mask_problems
from mmbeit3.config.tokenizers import read_tokenizer
from mmbeit3.datasets import TextDataset
from mmbeit3.datasets.checks.captions import describe_long
from mmbeit3.datasets.checks.files import keep
from mmbeit3.datasets.coco import NoMasksError
from mmbeit3.registry import DATASETS
from mmbeit3.text import Tokenizer
from mmbeit3.utils import InputError, warn

MAX_LINES = 5  # of a message about several data sets
LARGE_FILE = 20_000_000  # bytes of an annotation file that takes seconds to load


def check_training_data(cfg: Config) -> None:
    """Load the data sets of this package's types that a config trains and validates on.

    Loading checks annotations, images and label maps, and the runner loads them again; here,
    mistakes are found before a large model is built. That a large annotation file was in order is
    kept until it changes, so that it is not read twice at every start. Warnings are left to the
    runner's loading.

    Args:
        cfg: The config, with its classes resolved.

    Raises:
        InputError: An entry of the data cannot be used; all data sets are checked first.
    """
    problems = find_mask_problems(cfg, ("train", "val"))
    objects = []
    tokenizer, remarks = read_tokenizer(cfg), []
    with _no_warnings():
        for place, config in distinct(own_datasets(cfg, ("train", "val"))):
            try:
                found, dataset = _load(config, cfg.get("default_scope"))
                remarks += _long_texts(place, dataset, tokenizer)
            except NoMasksError as error:
                problems.append(f"{place}: {error}. These options train boxes:\n{boxes_alone(cfg)}")
            except InputError as error:
                problems.append(f"{place}: {error}")
            else:
                objects += [found] if place.startswith("train") else []
        problems += find_evaluation_problems(cfg, ("val",))
    training = find_datasets(cfg, ("train",), own=False)
    only_ours = all(dataset.get("type") == COCO_TYPE for _, dataset in training)
    if only_ours and objects and not any(number != 0 for number in objects):
        problems.append("the training data have not one object: there is nothing to learn")
    if problems:
        raise InputError(_joined(problems))
    for remark in remarks:
        warn(remark)


def check_files_here(cfg: Config) -> None:
    """Look for the files that each machine needs, of data sets whose class has ``check_files``.

    Args:
        cfg: The config.

    Raises:
        InputError: Some are missing.
    """
    for place, config in distinct(own_datasets(cfg, ("train", "val"))):
        check = getattr(dataset_class(config), "check_files", None)
        try:
            if check is not None:
                check(config)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None


def check_test_data(cfg: Config, load: bool = False) -> None:
    """Check that the metrics of a test fit its data sets and the model.

    Args:
        cfg: The config.
        load: Whether to load the data sets, too, as far as that can be done without the classes of
            a checkpoint: before one is downloaded. Defaults to False.

    Raises:
        InputError: Something does not fit; all that was found is in the message.
    """
    problems = find_mask_problems(cfg, ("test",)) + find_evaluation_problems(cfg, ("test",))
    with _no_warnings():
        for place, config in distinct(own_datasets(cfg, ("test",))) if load else ():
            has_classes = config["type"] != SEG_FOLDER_TYPE or osp.isfile(
                data_path(config, "classes_file")
            )
            try:
                if has_classes:
                    _load(config, cfg.get("default_scope"))
            except InputError as error:
                problems.append(f"{place}: {error}")
    if problems:
        raise InputError(_joined(problems))


def _joined(problems: Sequence[str]) -> str:
    """All problems in as few lines as can be read at once, each with its first and last line."""
    texts = [text.splitlines() for text in problems[:MAX_LINES]]
    while sum(map(len, texts)) > MAX_LINES and max(map(len, texts)) > 1:
        longest = max(reversed(texts), key=len)
        longest.pop(-2 if len(longest) > 2 else -1)
    return "\n".join(line for lines in texts for line in lines)


def build_dataset(config: ConfigDict, scope: str | None, **changes: Any) -> BaseDataset:
    """Build a data set of a config.

    Args:
        config: Its settings.
        scope: The ``default_scope`` of the config, in which the transforms are looked up.
        **changes: Settings that replace those of the config.
    """
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(ConfigDict(config, **changes))


def _load(config: ConfigDict, scope: str | None) -> tuple[int | None, BaseDataset | None]:
    """Load a data set: the number of objects to learn where they are counted, and the data set.

    The data set of a large file is None.
    """

    def load() -> tuple[int | None, BaseDataset]:
        dataset = build_dataset(config, scope)
        return getattr(dataset, "num_learnable", None), dataset

    file = data_path(config, "ann_file")
    is_large = config["type"] == COCO_TYPE and osp.isfile(file)
    if not (is_large and os.path.getsize(file) >= LARGE_FILE):
        return load()
    return keep(f"objects {config}", [file], file, lambda: load()[0], is_costly=True), None


def _long_texts(place: str, dataset: BaseDataset | None, tokenizer: Tokenizer | None) -> list[str]:
    """Say how many texts of a data set the tokenizer cuts, if any."""
    if tokenizer is None or not isinstance(dataset, TextDataset):
        return []
    items = map(dataset.get_data_info, range(len(dataset)))
    texts = [text for item in items for text in item["texts"]]
    long = describe_long(texts, tokenizer.lengths(texts), tokenizer.max_length)
    return [f"{place}: {long}"] if long else []


@contextmanager
def _no_warnings() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    _forget_levels()
    try:
        yield
    finally:
        logging.disable(before)
        _forget_levels()


def _forget_levels() -> None:
    """Have mmengine's loggers heed ``logging.disable``: they remember which levels were enabled."""
    logger = MMLogger.get_current_instance()
    logger.setLevel(logger.level)
