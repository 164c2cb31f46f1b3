"""Configs: read one, check what was typed, and fit it to the data set's classes and the device."""

from __future__ import annotations

import difflib
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from os import path as osp
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.logging import print_log

from mmbeit3.checkpoint import loading_safely
from mmbeit3.checkpoint.reading import similar_files
from mmbeit3.config import (
    explain_missing,
    is_read,
    keys_filled,
    meant_keys,
    names_without_effect,
    runner_keys,
    set_by_user,
)
from mmbeit3.engine.distributed import init_distributed
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.text_files import read_text

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
COCO_TYPE = "mmbeit3.CocoDataset"
SEG_FOLDER_TYPE = "mmbeit3.SegFolderDataset"
# Their classes are in the code, and metainfo.classes may choose some of them.
FIXED_TYPES = ("mmbeit3.ADE20KDataset", "mmbeit3.COCOStuffDataset")
# Parts of a model whose ``num_classes`` is that of the data; the RPN's (always 1) is in none.
CLASS_HEADS = ("roi_head", "bbox_head", "mask_head", "decode_head", "auxiliary_head")
AMP_DEVICES = ("cuda", "npu", "mlu", "musa")  # what mmengine's AmpOptimWrapper accepts
AMP_OPTIONS = ("loss_scale", "dtype", "use_fsdp")
# High enough that no helper variable of the configs of mmdet and mmseg is taken for a misspelling.
SIMILAR_TO_RUNNER_KEY = 0.82
SIMILAR = 0.7
DATA_SUFFIXES = (".json", ".yaml", ".yml")


@loading_safely()
def load_config(
    path: str | Path, options: Mapping[str, Any] | None = None, work_dir: str | Path | None = None
) -> Config:
    """Read a config file and check that its keys, and those of ``options``, mean something.

    Args:
        path: The config file.
        options: Values that replace the file's, as ``--cfg-options`` gives them: dotted keys,
            with numbers for list entries (``train_dataloader.dataset.pipeline.0.type``).
        work_dir: Where results go. Defaults to the config's ``work_dir``, else
            ``work_dirs/<name of the config file>``.

    Returns:
        The config, with ``work_dir`` set.

    Raises:
        InputError: The file is absent or has an error; a key is misspelt or leads nowhere; or a
            file of data (.json, .yaml) has a base that is code.
    """
    path = Path(path).expanduser()
    check_regular(path, "config")
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"config {path} {kind}{similar_files(path)}")
    try:
        _check_bases(path)
        cfg = Config.fromfile(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_config_error(path, error)) from error
    _check_runner_keys(cfg, path)
    for sentence in names_without_effect(cfg, path):
        _warn(sentence)
    if options:
        _check_options(cfg, options)
        cfg.merge_from_dict(dict(options))
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get("work_dir") is None:
        cfg.work_dir = osp.join("work_dirs", path.stem)
    return cfg


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Turn ``--cfg-options`` into a dict, with mmengine's reading of values.

    Args:
        pairs: ``key=value`` strings; a value is a number, a bool, None, a string, or a list
            (``a,b`` or ``[a,b]``) or tuple (``(a,b)``) of such.

    Returns:
        Dotted keys to values, for :func:`load_config`.

    Raises:
        InputError: A string holds no ``=`` or its brackets do not close.
    """
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"--cfg-options takes key=value; found {pair!r}")
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise InputError(f"--cfg-options {pair}: {error}") from error
    return options


def resolve_classes(
    cfg: Config, checkpoint_meta: Mapping[str, Any] | None = None
) -> tuple[str, ...] | None:
    """Give all data sets the training classes, and the heads their number, in place.

    It concerns data sets of the types ``mmbeit3.CocoDataset``, ``mmbeit3.SegFolderDataset``,
    ``mmbeit3.ADE20KDataset`` and ``mmbeit3.COCOStuffDataset``. Their classes are, in this order:
    those that the config's training set names (``metainfo=dict(classes=...)``), those that the
    checkpoint was trained on, those of the training annotation file, of ``classes_file``, or of the
    type (ADE20K's 150, COCO-Stuff's 171). Every such data set that names none gets them, so that
    one with other categories is found out; one that names others, or the same in another order, is
    an error. ``num_classes`` under ``roi_head``, ``bbox_head``, ``mask_head``, ``decode_head`` and
    ``auxiliary_head`` follows, and with it the list ``loss_cls.class_weight`` of a head with a
    weight for "no object" (Mask2Former). A ``mmbeit3.SegFolderDataset`` that leaves
    ``reduce_zero_label`` open follows the training set, or else the checkpoint.

    Args:
        cfg: The config.
        checkpoint_meta: The checkpoint's ``meta``, at test time. Defaults to None.

    Returns:
        The classes, or None when the config has no such data set.

    Raises:
        InputError: The file with the classes is absent or malformed, a data set has other classes
            than the first, or class weights that differ are for another number of classes.
    """
    datasets = _own_datasets(cfg)
    if not datasets:
        return None
    dataset_meta = (checkpoint_meta or {}).get("dataset_meta") or {}
    source, classes = _training_classes(*datasets[0], dataset_meta.get("classes"))
    if of_checkpoint := dataset_meta.get("classes"):
        _check_same(source, classes, "the checkpoint", tuple(of_checkpoint))
    for place, dataset in datasets:
        _give_classes(place, dataset, source, classes)
    _give_reduction([dataset for _, dataset in datasets], dataset_meta)
    _remark_on_numbers(cfg, len(classes), source)
    set_num_classes(cfg.model, len(classes))
    return classes


def follow_checkpoint(cfg: Config, classes: Sequence[str]) -> None:
    """Give the heads the number of a checkpoint's classes, in place, to predict with it.

    As :func:`resolve_classes`, it concerns configs with a data set of this project. No file of a
    data set is looked at; one that names other classes is remarked on.

    Args:
        cfg: The config.
        classes: The names in the checkpoint.
    """
    datasets = _own_datasets(cfg)
    if not datasets:
        return
    set_num_classes(cfg.model, len(classes))
    named = _named_classes(datasets[0][1])
    if named and named != tuple(classes):
        print_log(
            f"{datasets[0][0]}.metainfo.classes is {listed(named, 5)}, but the checkpoint was "
            f"trained on {listed(classes, 5)}, and its names are used",
            "current",
            logging.WARNING,
        )


def is_segmentation(cfg: Config) -> bool:
    """Tell whether a config is one of semantic segmentation: its model is mmseg's.

    The scope of ``model.type`` decides, else ``default_scope``; without any it is a detector's.
    """
    kind = cfg.model.get("type", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}."
    scope = name.partition(".")[0] if "." in name else ""
    return (scope if scope in ("mmdet", "mmseg") else cfg.get("default_scope")) == "mmseg"


def use_amp(cfg: Config) -> None:
    """Switch training to mixed precision, in place: bfloat16 unless the config names a dtype.

    bfloat16 has float32's range, so the loss scale is fixed at 1; other types scale dynamically.
    """
    wrapper = cfg.optim_wrapper
    if "AmpOptimWrapper" not in str(wrapper.get("type")):
        wrapper.type = "AmpOptimWrapper"
    wrapper.setdefault("dtype", "bfloat16")
    wrapper.setdefault("loss_scale", 1.0 if wrapper.dtype == "bfloat16" else "dynamic")


def auto_accumulation(cfg: Config, images: int) -> int | None:
    """Count the micro-batches of ``images`` (over all devices) that make the recipe's batch.

    The recipe's is ``auto_scale_lr.base_batch_size``; None if the config does not state it.
    """
    recipe = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    return max(1, round(recipe / images)) if recipe else None


def start_processes(cfg: Config) -> None:
    """Start torch.distributed as ``launcher`` and ``env_cfg.dist_cfg`` say; alone, do nothing."""
    options = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    init_distributed(cfg.get("launcher", "none"), **options)


def use_device(cfg: Config) -> None:
    """Fit training to this machine, in place: without a GPU, mixed precision becomes float32.

    mmengine refuses mixed precision there; one line in the log says what changed.
    """
    wrapper = cfg.get("optim_wrapper")
    if wrapper is None or "AmpOptimWrapper" not in str(wrapper.get("type")):
        return
    if get_device() not in AMP_DEVICES:
        wrapper.type = "OptimWrapper"
        for option in AMP_OPTIONS:
            wrapper.pop(option, None)
        print_log(f"no GPU for mixed precision: training in float32 on {get_device()}", "current")


def _check_bases(path: Path) -> None:
    """Refuse code below a config that is data, except for that of an installed package."""
    if path.suffix not in DATA_SUFFIXES:
        return
    content = mmengine.load(path)
    bases = content.get("_base_", []) if isinstance(content, dict) else []
    for base in bases if isinstance(bases, list) else [bases]:
        package, inside, rest = str(base).partition("::")
        below = Path(rest if inside else package)
        if inside and ".." not in below.parts and not below.is_absolute():
            continue
        if inside or below.suffix not in DATA_SUFFIXES:
            raise InputError(
                f"config {path}: its _base_ {base} is code, which a {path.suffix} file does not "
                "run; give a .json or .yaml file or PACKAGE::FILE, or write the config as a .py "
                "file"
            )
        _check_bases(path.parent / below)


def _config_error(path: Path, error: Exception) -> str:
    """Say where in which config file ``error`` arose; mmengine reads bases file by file."""
    file, line, child = str(path), None, path
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_file2dict":
            child = Path(file)
            file, line = frame.f_locals["filename"], None
        elif frame.f_code.co_filename == file:
            line = lineno
    if isinstance(error, FileNotFoundError) and not Path(file).is_file():
        check_regular(file, "config")
        return explain_missing(child, Path(file))
    if isinstance(error, SyntaxError):
        # mmengine's own message names a temporary copy.
        error, line = _syntax_error(file, error)
    reason = error.__cause__ if isinstance(error, ImportError) and error.__cause__ else error
    where = f"{file}, line {line}" if line else file
    return f"config {where}: {type(reason).__name__}: {reason}"


def _syntax_error(file: str, error: SyntaxError) -> tuple[SyntaxError, int | None]:
    try:
        compile(Path(file).read_text(encoding="utf-8"), file, "exec")
    except SyntaxError as found:
        return SyntaxError(found.msg), found.lineno
    return error, error.lineno


def _check_runner_keys(cfg: Config, path: Path) -> None:
    known = runner_keys()
    for key in cfg:
        # train_dataloader_small, my_train_dataloader: variables named after what they are.
        derived = any(key.startswith(f"{name}_") or key.endswith(f"_{name}") for name in known)
        similar = difflib.get_close_matches(key, known, n=1, cutoff=SIMILAR_TO_RUNNER_KEY)
        if key not in known and not derived and similar:
            raise InputError(f"config {path}: unknown key {key!r}; did you mean {similar[0]!r}?")
    if "model" not in cfg:
        raise InputError(f"config {path} has no 'model'; its keys are {', '.join(cfg) or 'none'}")


def _check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Follow every dotted key through the config; it may only add to what a class takes."""
    for option, value in options.items():
        node: Any = cfg
        parts = option.split(".")
        for depth, part in enumerate(parts):
            if isinstance(node, (list, tuple)):
                _check_index(option, part, node)
                node = node[int(part)]
            elif part in node:
                node = node[part]
                if node is None and depth + 1 < len(parts):
                    node = _fill(cfg, parts[: depth + 1])
            else:
                _check_new_key(cfg, option, parts, depth, node)
                break
            if depth + 1 < len(parts) and not isinstance(node, (dict, list, tuple)):
                place = ".".join(parts[: depth + 1])
                raise InputError(f"--cfg-options {option}: {place} is {node!r}, not a dict or list")
        _remark_on_variable(cfg, option, parts[0], value)


def _remark_on_variable(cfg: Config, option: str, name: str, value: Any) -> None:
    if name in cfg and not is_read(name):
        keys = keys_filled(cfg, option, value)
        _warn(
            f"--cfg-options {option}: {name} is a variable of the config file, which has used it "
            + (f"already; set instead {keys}" if keys else "already, and this value changes no key")
        )


def _warn(text: str) -> None:
    print_log(text, "current", logging.WARNING)


def _check_index(option: str, part: str, node: Sequence[Any]) -> None:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(
            f"--cfg-options {option}: {part!r} stands where a list has {len(node)} entries; "
            f"expected a number from 0 to {len(node) - 1}"
        )


def _check_new_key(
    cfg: Config, option: str, parts: list[str], depth: int, node: Mapping[str, Any]
) -> None:
    name = parts[depth]
    if depth == 0 and is_read(name):  # one that this config does without
        return
    inside = ".".join(parts[:depth]) or "the config"
    last = depth + 1 == len(parts)
    known = [key for key in node if depth or is_read(key)]
    similar = difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
    takes_any = "type" in node and depth > 0
    if similar and not (last and takes_any):
        raise InputError(
            f"--cfg-options {option}: {inside} has no {name!r}; "
            f"did you mean {'.'.join([*parts[:depth], similar[0], *parts[depth + 1 :]])!r}?"
        )
    if depth == 0 and (keys := meant_keys(cfg, name)):
        raise InputError(
            f"--cfg-options {option}: nothing reads {name!r}; set instead {', '.join(keys)}"
        )
    if not (last or takes_any) or depth == 0:
        raise InputError(
            f"--cfg-options {option}: {inside} has no {name!r}; it has {', '.join(node)}"
        )


def _fill(cfg: Config, parts: list[str]) -> ConfigDict:
    """Put an empty dict where the config says None (``init_cfg=None``), for options to fill."""
    node: Any = cfg
    for part in parts[:-1]:
        node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
    node[parts[-1]] = ConfigDict()
    return node[parts[-1]]


def _own_datasets(cfg: Config) -> list[tuple[str, ConfigDict]]:
    """Dotted keys and settings of this project's data sets, those to train on first."""
    return [
        found
        for name in DATALOADERS
        for found in datasets_in((cfg.get(name) or {}).get("dataset"), f"{name}.dataset")
    ]


def datasets_in(node: Any, place: str) -> Iterator[tuple[str, ConfigDict]]:
    """Find our data sets in a part of a config, inside wrappers and concatenations too.

    Args:
        node: The part.
        place: Its dotted key.

    Yields:
        Dotted key and settings of each.
    """
    if isinstance(node, (list, tuple)):
        for index, entry in enumerate(node):
            yield from datasets_in(entry, f"{place}.{index}")
    elif isinstance(node, dict):
        if node.get("type") in (COCO_TYPE, SEG_FOLDER_TYPE, *FIXED_TYPES):
            yield place, node
        for key in ("dataset", "datasets"):
            yield from datasets_in(node.get(key), f"{place}.{key}")


def _training_classes(
    place: str, dataset: Mapping[str, Any], of_checkpoint: Sequence[str] | None
) -> tuple[str, tuple[str, ...]]:
    """The classes that all data sets must have, and what to call their source in messages."""
    if named := _named_classes(dataset):
        return f"{place}.metainfo.classes", named
    if of_checkpoint:
        return "the checkpoint", tuple(of_checkpoint)
    if own := _own_classes(dataset):
        return f"{place} ({dataset['type']})", own
    key = "classes_file" if dataset["type"] == SEG_FOLDER_TYPE else "ann_file"
    return f"{place}.{key}", _classes_in_file(dataset, key)


def _give_classes(
    place: str, dataset: dict[str, Any], source: str, classes: tuple[str, ...]
) -> None:
    """Name the training classes in a data set that names none, and compare them with others."""
    own = _own_classes(dataset)
    if named := _named_classes(dataset):
        _check_same(f"{place}.metainfo.classes", named, source, classes)
    elif own and not set(classes) <= set(own):
        _check_same(f"{place} ({dataset['type']})", own, source, classes)
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


def _check_same(place: str, found: tuple[str, ...], source: str, expected: tuple[str, ...]) -> None:
    if found == expected:
        return
    pairs = zip_longest(map(repr, found), map(repr, expected), fillvalue="none")
    number, (here, there) = next(pair for pair in enumerate(pairs) if len(set(pair[1])) > 1)
    raise InputError(
        f"{place} has {len(found)} classes, {source} {len(expected)}; the first difference is "
        f"class {number}, {here} and {there}. Scores are counted by class number, so all must have "
        "the same classes in the same order: correct metainfo.classes, or leave it out where the "
        "data set is to follow the training set or the checkpoint"
    )


def _named_classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    named = (dataset.get("metainfo") or {}).get("classes") or ()
    if isinstance(named, str) and osp.isfile(named):
        return tuple(read_text(named).splitlines())
    return (named,) if isinstance(named, str) else tuple(named)


def _own_classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    if dataset["type"] not in FIXED_TYPES:
        return ()
    from mmbeit3 import datasets

    return tuple(getattr(datasets, dataset["type"].partition(".")[2]).METAINFO["classes"])


def _classes_in_file(dataset: Mapping[str, Any], key: str) -> tuple[str, ...]:
    from mmbeit3.datasets import read_class_list, read_classes

    if not dataset.get(key):
        raise InputError(f"the {dataset['type']} of the config has no {key}, which names classes")
    path = osp.join(dataset.get("data_root") or "", dataset[key])
    return read_class_list(path).names if key == "classes_file" else tuple(read_classes(path))


def _remark_on_numbers(cfg: Config, number: int, source: str) -> None:
    """Say which numbers of classes, set by the user, give way to that of the data."""
    found = dict(_numbers_of_classes(cfg.model, "model"))
    other = [place for place, value in found.items() if value != number]
    if other := set_by_user(cfg, other) if other else []:
        places = ", ".join(f"{place}={found[place]}" for place in other)
        _warn(
            f"{places}: becomes {number}, the number of classes of {source}; to train on other "
            "classes name them in train_dataloader.dataset.metainfo.classes"
        )


def _numbers_of_classes(node: Any, place: str, inside: bool = False) -> Iterator[tuple[str, int]]:
    """Dotted key and value of ``num_classes`` of all heads."""
    items = enumerate(node) if isinstance(node, (list, tuple)) else ()
    if isinstance(node, dict):
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
