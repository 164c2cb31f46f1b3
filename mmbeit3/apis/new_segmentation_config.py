"""Write a config that trains a segmentor on own folders of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from os import path as osp
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from mmbeit3.apis.new_config import (
    LIGHT,
    SCHEDULE,
    USAGE,
    check_free,
    existing_folder,
    optimizer,
    pretrained_backbone,
    said_of_split,
    schedule,
    split_off,
    write_config,
)
from mmbeit3.datasets import SegFolderDataset
from mmbeit3.datasets.checks.segmentation import IGNORED, LabelCounts, check_labels, count_labels
from mmbeit3.datasets.class_list import read_class_list
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.whole_files import write_whole

HEAD = '''"""BEiT-3 {size} Mask2Former on {num_images} images of {train_images}.
'''
VALUES = """
_base_ = [
    "mmbeit3::_base_/models/{model}.py",
    "mmbeit3::_base_/default_runtime_seg.py",
]

# ============ edit these ============
train_images, train_masks = {train_images!r}, {train_masks!r}
val_images, val_masks = {val_images!r}, {val_masks!r}
train_list, val_list = {train_list!r}, {val_list!r}  # {why_lists}
classes_file = {classes_file!r}  # one class a line: {classes}
reduce_zero_label = {reduce_zero_label}  # {why_zero}
crop = {crop}  # {why}
"""
BODY = """
# ============ sometimes changed ============
load_image, load_masks = (
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations"),
)
train_pipeline = [
    load_image,
    load_masks,
    dict(
        type="RandomResize",
        scale=(4 * crop, crop),  # the shorter side to crop
        ratio_range={ratios},
        keep_ratio=True,
    ),
    dict(type="mmbeit3.SegRandomCrop", crop_size=(crop, crop), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.PhotoMetricDistortion"),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(4 * crop, crop), keep_ratio=True),
    load_masks,
    dict(type="PackSegInputs"),
]
# mmbeit3 test --tta flip, and infer
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
views = [[test_pipeline[1]], flips, [test_pipeline[2]], [dict(type="PackSegInputs")]]
tta_pipeline_flip = [test_pipeline[0], dict(type="TestTimeAug", transforms=views)]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_prefix=dict(img_path=train_images, seg_map_path=train_masks),
        ann_file=train_list,
        classes_file=classes_file,
        reduce_zero_label=reduce_zero_label,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_prefix=dict(img_path=val_images, seg_map_path=val_masks),
        ann_file=val_list,
        classes_file=classes_file,
        reduce_zero_label=reduce_zero_label,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# ============ rarely changed ============
# The number of classes of the head follows the class file.
model = dict(
    data_preprocessor=dict(size=(crop, crop)),
    {model_keys}
)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    {optimizer}
)
warm_up = max(1, max_iters // 20)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=warm_up, end=max_iters),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=val_interval, max_keep_ckpts=1),
)
randomness = dict(seed=0)
"""
# Windows move by two thirds of their size, as BEiT's (mmseg configs/beit: 426 of 640).
SLIDE = """
    test_cfg=dict(mode="slide", crop_size=(crop, crop), stride=(crop * 2 // 3, crop * 2 // 3)),"""


def write_segmentation_config(
    out: str | Path,
    images: str | Path,
    masks: str | Path,
    classes: str | Path,
    val_images: str | Path | None = None,
    val_masks: str | Path | None = None,
    size: str = "tiny",
    reduce_zero_label: bool | None = None,
) -> list[str]:
    """Write a config that trains a segmentor on folders of images and masks.

    All masks are read, and their values compared with the classes.

    Args:
        out (str | Path): The config to write; it must not exist.
        images (str | Path): The folder of the images to train on.
        masks (str | Path): The folder of their masks, see
            :class:`mmbeit3.datasets.SegFolderDataset`.
        classes (str | Path): A text file with one class a line, that of value 0 first.
        val_images (str | Path | None): The folder of images to validate on. Defaults to a fifth of
            ``images``; the two lists are written next to the config.
        val_masks (str | Path | None): The folder of their masks. Defaults to None.
        size (str): "tiny", "small", "base" or "large". Defaults to "tiny".
        reduce_zero_label (bool | None): Whether 0 means unlabeled, and the classes count from 1.
            Defaults to None: True where no mask has a 0 and the values fit; what leaves doubt is an
            error.

    Returns:
        list[str]: What was found, written and chosen, for a person.

    Raises:
        InputError: ``out`` exists, a pair is not complete, a mask is malformed, or the values of
            the masks do not fit the classes.
    """
    out = Path(out).expanduser()
    lists = [out.resolve().with_name(f"{out.stem}_{part}.txt") for part in ("train", "val")]
    if (val_images is None) != (val_masks is None):
        given, absent = ("val_images", "masks") if val_masks is None else ("val_masks", "images")
        raise InputError(f"needs --val-{absent} too", given)
    check_free(out, *(lists if val_images is None else ()))
    folders = [existing_folder(images, "images"), existing_folder(masks, "masks")]
    val_folders = folders
    if val_images is not None and val_masks is not None:
        val_folders = [
            existing_folder(val_images, "val_images"),
            existing_folder(val_masks, "val_masks"),
        ]
    classes_file = Path(classes).expanduser().resolve()
    names = read_class_list(classes_file).names
    pairs = _find_pairs(folders, classes_file)
    counts = count_labels(pairs, str(folders[1]))
    why_zero = "as given"
    if reduce_zero_label is None:
        reduce_zero_label = not counts.has(0) and counts.has(len(names)) or None
        why_zero = "no mask has the value 0: the classes count from 1"
    check_labels(counts, names, reduce_zero_label, str(folders[1]))
    if reduce_zero_label is None:
        why_zero = f"value 0 is {names[0]!r}; True: 0 is unlabeled, and the classes count from 1"
    lines = [_said(counts, names, bool(reduce_zero_label), "masks")]
    values = {"train_list": "", "val_list": "", "why_lists": "all images of the folders"}
    train_pairs = pairs
    if val_images is None:
        train_pairs, val_pairs = split_off(pairs, "val_images")
        for file, part in zip(lists, (train_pairs, val_pairs), strict=True):
            stems = (Path(osp.relpath(image, folders[0])).with_suffix("") for image, _ in part)
            write_whole(file, "".join(f"{stem.as_posix()}\n" for stem in stems))
        lines.append(said_of_split(len(val_pairs), len(pairs), "--val-images", lists))
        values["train_list"], values["val_list"] = map(str, lists)
        values["why_lists"] = "one image a line, without suffix"
    else:
        val_pairs = _find_pairs(val_folders, classes_file)
        val_counts = count_labels(val_pairs, str(val_folders[1]))
        check_labels(val_counts, names, reduce_zero_label, str(val_folders[1]), training=False)
        lines.append(_said(val_counts, names, bool(reduce_zero_label), "masks to validate on"))
    config: dict[str, Any] = values | _values(train_pairs, size)
    config |= {
        "size": size,
        "classes": listed(names, 8),
        "classes_file": str(classes_file),
        "reduce_zero_label": bool(reduce_zero_label),
        "why_zero": why_zero,
    }
    for split, (image_folder, mask_folder) in (("train", folders), ("val", val_folders)):
        config |= {f"{split}_images": str(image_folder), f"{split}_masks": str(mask_folder)}
    write_config(out, (HEAD, USAGE, VALUES, SCHEDULE, BODY), config)
    return [
        *lines,
        f"wrote {out}: {size}, {config['crop']} pixels ({config['why']}), "
        f"{config['max_iters']} iterations",
    ]


def _find_pairs(folders: Sequence[Path], classes_file: Path) -> list[tuple[str, str]]:
    """The paths of images and masks, all of which must be there in pairs."""
    prefix = dict(zip(("img_path", "seg_map_path"), map(str, folders), strict=True))
    dataset = SegFolderDataset(
        str(classes_file), data_prefix=prefix, check_labels=False, pipeline=[], lazy_init=True
    )
    return [(info["img_path"], info["seg_map_path"]) for info in dataset.load_data_list()]


def _said(counts: LabelCounts, names: Sequence[str], reduced: bool, what: str) -> str:
    """What the values of masks are taken for."""
    shares = [
        f"{value} {name} {counts.share(value):.1%}"
        for value, name in enumerate(names, int(reduced))
    ]
    ignored = counts.share(IGNORED) + (counts.share(0) if reduced else 0)
    if ignored:
        shares.append(f"ignored {ignored:.1%}")
    return f"{counts.num_maps} {what}, pixels by value: {listed(shares, 12)}"


def _values(pairs: Sequence[tuple[str, str]], size: str) -> dict[str, Any]:
    """The values that follow from the data and the size of the model."""
    sides = []
    for _, mask in pairs:
        with Image.open(mask) as picture:
            sides.append(min(picture.size))
    side = median(sides)
    light = size in LIGHT
    smallest, largest = (128, 192) if light else (256, 512)
    crop = min(max(round(side / 32) * 32, smallest), largest)
    why = f"square cut out in training; the shorter side, of {side:.0f} pixels, is scaled to it"
    if light:
        model, keys = f"{size}_sfp", "backbone=dict(img_size=crop),"
        groups = "clip_grad=dict(max_norm=1.0),"
    else:
        model, keys = "sfp", pretrained_backbone(size) + SLIDE
        groups = (
            'constructor="mmbeit3.LayerDecayConstructor",\n'
            "    paramwise_cfg=dict(layer_decay_rate=0.9, flat_decay_mult=0.0),"
        )
    return schedule(len(pairs), 2 if light else 4, size) | {
        "model": f"mask2former_beit3{'-' if light else '_'}{model}",
        "model_keys": keys,
        "crop": crop,
        "why": why,
        "ratios": (0.7, 1.4) if light else (0.5, 2.0),
        "learning_rate": {"tiny": 6e-4, "small": 3e-4}.get(size, 3e-5),
        "optimizer": f"{optimizer(size, 0.05)}\n    {groups}",
    }
