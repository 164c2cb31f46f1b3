"""Write a config that trains a detector on own COCO-format data, with values of the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

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
from mmbeit3.datasets.checks.coco import load_coco
from mmbeit3.datasets.image_files import check_images_exist
from mmbeit3.datasets.label_formats import FORMATS, guess_format, read_labels, write_labels
from mmbeit3.datasets.label_formats.staleness import source_of
from mmbeit3.utils import InputError, listed
from mmbeit3.utils.similar_paths import describe_similar, find_similar
from mmbeit3.utils.whole_files import write_whole

OBJECT_SIDE = 32  # pixels that the median object of a light model has: four of its patches

HEAD = '''"""BEiT-3 {size} Cascade {rcnn} on {num_images} images of {train}.
'''
VALUES = """
_base_ = [
    "mmbeit3::_base_/models/{model}.py",
    "mmbeit3::_base_/default_runtime.py",
]

# ============ edit these ============
train_ann, train_images = {train!r}, {train_images!r}
val_ann, val_images = {val!r}, {val_images!r}
# The classes are those of train_ann, in its order: {classes}
image_size = {image_size}  # {why}
"""
BODY = """
# ============ sometimes changed ============
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations", with_bbox=True, {load_masks}),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.ContiguousImage"),
    dict(
        type="RandomResize",
        scale=(image_size, image_size),
        ratio_range={ratios},
        keep_ratio=True,
    ),
    dict(
        type="mmbeit3.PolygonRandomCrop",
        crop_type="absolute",
        crop_size=(image_size, image_size),
        recompute_bbox={with_mask},
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask={with_mask}),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
# mmbeit3 test --tta flip, and infer
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
views = [[test_pipeline[1]], flips, [test_pipeline[2]], [dict(type="PackDetInputs")]]
tta_pipeline_flip = [test_pipeline[0], dict(type="TestTimeAug", transforms=views)]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.CocoDataset",
        ann_file=train_ann,
        data_prefix=dict(img=train_images),
        filter_cfg=dict(filter_empty_gt=True),
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
        type="mmbeit3.CocoDataset",
        ann_file=val_ann,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CocoMetric", ann_file=val_ann, metric={metric})
test_evaluator = val_evaluator

# ============ rarely changed ============
model = dict(
    {model_keys}
)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    {optimizer}
    clip_grad=dict(max_norm=10.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate={layer_decay}),
)
warm_up = max(1, min(50, max_iters // 10))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warm_up,
        end=max_iters,
        eta_min=learning_rate / 30,
    ),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=val_interval, max_keep_ckpts=1),
)
randomness = dict(seed=0)
"""


def write_detection_config(
    out: str | Path,
    coco: str | Path,
    images: str | Path,
    val: str | Path | None = None,
    val_images: str | Path | None = None,
    size: str = "tiny",
) -> list[str]:
    """Write a config that trains a detector on COCO-format data.

    It has a mask head where every object of the data has a mask.

    Args:
        out (str | Path): The config to write; it must not exist.
        coco (str | Path): Annotations to train on.
        images (str | Path): The folder of their images.
        val (str | Path | None): Annotations to validate on. Defaults to a fifth of ``coco``, which
            is written next to the config.
        val_images (str | Path | None): The folder of their images. Defaults to ``images``.
        size (str): "tiny", "small", "base" or "large". Defaults to "tiny".

    Returns:
        list[str]: What was written and chosen, for a person.

    Raises:
        InputError: ``out`` exists, an image is not in its folder, or the annotations cannot be
            used or have no boxes.
    """
    out, coco = Path(out).expanduser(), Path(coco).expanduser().resolve()
    parts = [out.resolve().with_name(f"{out.stem}_{part}.json") for part in ("train", "val")]
    check_free(out, *(parts if val is None else ()))
    if val is None and val_images is not None:
        raise InputError("needs --val, the annotations of these images", "val_images")
    folder = existing_folder(images, "images")
    val_folder = existing_folder(val_images, "val_images") if val_images else folder
    content = _read(coco, "coco")
    _check_images(content, coco, folder, "images")
    lines, train_file, train = [], coco, content
    if val is None:
        train, held_out = _split(content)
        train_file, val_file = parts
        for file, part in zip(parts, (train, held_out), strict=True):
            write_whole(file, json.dumps(part).encode())
        numbers = len(held_out["images"]), len(content["images"])
        lines.append(said_of_split(*numbers, "--val", parts))
    else:
        val_file = Path(val).expanduser().resolve()
        held_out = _read(val_file, "val")
        _check_images(held_out, val_file, val_folder, "val_images")
        both = _files(content, folder) & _files(held_out, val_folder)
        if both:
            cure = "" if val_images else "; if they have another folder, give --val-images"
            lines.append(
                f"warning: {len(both)} of the {len(held_out['images'])} files to validate on are "
                f"trained on too, so that scores say nothing of new images{cure}"
            )
    objects = train["annotations"] + held_out["annotations"]
    without = sum(not entry.get("segmentation") for entry in objects)
    if without:
        lines.append(
            f"{without} of the {len(objects)} objects have no mask (segmentation): the detector "
            "has no mask head and finds boxes alone"
        )
    values = _values(train, size, with_mask=not without) | {
        "size": size,
        "train": str(train_file),
        "val": str(val_file),
        "train_images": f"{folder}/",
        "val_images": f"{val_folder}/",
    }
    write_config(out, (HEAD, USAGE, VALUES, SCHEDULE, BODY), values)
    return [
        *lines,
        f"wrote {out}: {size}, {values['image_size']} pixels ({values['why']}), "
        f"{values['max_iters']} iterations, classes {values['classes']}",
    ]


def write_config_for_labels(
    out: str | Path,
    labels: str | Path,
    images: str | Path | None = None,
    val: str | Path | None = None,
    val_images: str | Path | None = None,
    size: str = "tiny",
) -> list[str]:
    """Write a config that trains a detector on labels of another format than COCO.

    They are converted once, to COCO files next to the config, which training reads, checks and
    evaluates on as on any other; it warns when the labels have changed since.

    Args:
        out (str | Path): The config to write; it must not exist.
        labels (str | Path): A folder or file, of a format of
            :data:`mmbeit3.datasets.label_formats.FORMATS`. Of parts of it, 'train' is trained on
            and 'val' validated on.
        images (str | Path | None): The folder of the images. Defaults to where the format has them.
        val (str | Path | None): Labels to validate on. Defaults to the part 'val', or a fifth of
            ``labels``.
        val_images (str | Path | None): The folder of their images. Defaults to where the format
            has them, or ``images``.
        size (str): As of :func:`write_detection_config`.

    Returns:
        list[str]: What was read, written and chosen, for a person.

    Raises:
        InputError: As :func:`write_detection_config`, or the labels cannot be read.
    """
    out, labels = Path(out).expanduser(), Path(labels).expanduser()
    parts_of_names = ("labels", "labels_val", "train", "val")  # the last two where it is split
    written = [out.resolve().with_name(f"{out.stem}_{part}.json") for part in parts_of_names]
    check_free(out, *written)
    files = written[:2]
    name = guess_format(labels)
    splits = FORMATS[name].splits(labels)
    parts = [read_labels(labels, name, images, "train" if "train" in splits else None)]
    if val is not None:
        parts.append(read_labels(val, None, val_images or images))
    elif "train" in splits and "val" in splits:
        held_out = read_labels(labels, name, val_images or images, "val")
        same = {image.name for image in held_out.images} == {each.name for each in parts[0].images}
        parts += [] if same and held_out.root == parts[0].root else [held_out]
    elif val_images is not None:
        raise InputError("needs --val, the labels of these images", "val_images")
    classes = list(dict.fromkeys(each for part in parts for each in part.classes))
    lines: list[str] = []
    folders: list[Path] = []
    try:
        for part, file, place in zip(parts, files, (labels, val or labels), strict=False):
            if part.root is None:
                raise InputError("is needed: the labels do not say where the images are", "images")
            folders.append(part.root)
            part.classes = classes
            kind = guess_format(Path(place).expanduser())
            part.source = source_of(Path(place), kind, file)
            lines += [*part.notes, *write_labels(part, file, "coco")]
            title = FORMATS[kind].title
            lines.append(f"wrote {file}: {len(part.images)} images of {place} ({title})")
        lines += write_detection_config(
            out,
            files[0],
            folders[0],
            files[1] if len(parts) > 1 else None,
            folders[1] if len(parts) > 1 else None,
            size,
        )
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        raise
    return lines


def _read(file: Path, argument: str) -> dict[str, Any]:
    if not file.is_file():
        similar = describe_similar(str(file))
        raise InputError(f"there is no file {file}; expected COCO annotations{similar}", argument)
    return load_coco(file)


def _check_images(content: dict[str, Any], file: Path, folder: Path, argument: str) -> None:
    names = [image["file_name"] for image in content["images"]]
    paths = [f"{folder}/{name}" for name in names]
    try:
        check_images_exist(paths, str(file), str(folder))
    except InputError as error:
        if meant := _folder_meant(names, folder):
            raise InputError(
                f"the {len(names)} images that {file} names are not in {folder}; they are in "
                f"{meant}: give --{argument.replace('_', '-')} {meant}",
                argument,
            ) from None
        text = str(error).replace("Check data_root and data_prefix", "Name the folder they are in")
        raise InputError(text.replace(", or data_root and data_prefix", ""), argument) from None


def _files(content: dict[str, Any], folder: Path) -> set[Path]:
    return {folder / image["file_name"] for image in content["images"]}


def _folder_meant(names: Sequence[str], folder: Path) -> str | None:
    """The folder that has all the images, if the given one has none of them."""
    found = find_similar(str(folder), names[0]) if names else None
    if found is None or not found[0].endswith(f"/{names[0]}"):
        return None
    meant = found[0].removesuffix(f"/{names[0]}")
    anywhere = any((folder / name).exists() for name in names)
    return None if anywhere or not all((Path(meant) / name).exists() for name in names) else meant


def _split(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    images = sorted(content["images"], key=lambda image: str(image["id"]))
    parts = []
    for chosen in split_off(images, "val"):
        ids = {image["id"] for image in chosen}
        own = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        parts.append(content | {"images": chosen, "annotations": own})
    return parts[0], parts[1]


def _values(content: dict[str, Any], size: str, with_mask: bool) -> dict[str, Any]:
    """The values that follow from the data and the size of the model."""
    images = content["images"]
    side = median(max(image["width"], image["height"]) for image in images)
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in content["annotations"]]
    sides = [area**0.5 for area in areas if area > 0]
    if not sides:
        raise InputError("no object of the training images has a box with an area")
    light = size in LIGHT
    if light:
        wanted = round(side * OBJECT_SIDE / median(sides) / 32) * 32
        image_size = min(max(wanted, 128), 384)
        at_size = median(sides) * image_size / side
        why = f"of the longer side: the median object is about {at_size:.0f} pixels then"
        model, keys = f"{size}_sfp", "backbone=dict(img_size=image_size),"
    else:
        image_size = min(1024, max(256, round(side / 32) * 32))
        why = f"square that images are scaled to fit; their median longer side is {side:.0f}"
        model, keys = "sfp", pretrained_backbone(size)
    if not with_mask:
        keys += "\n    roi_head=dict(mask_head=None, mask_roi_extractor=None),  # boxes alone"
    return schedule(len(images), 2, size) | {
        "model": f"cascade-mask-rcnn_beit3{'-' if light else '_'}{model}",
        "model_keys": keys,
        "rcnn": "Mask R-CNN" if with_mask else "R-CNN",
        "classes": listed((entry["name"] for entry in content["categories"]), 8),
        "image_size": image_size,
        "why": why,
        "learning_rate": 3e-4 if light else 5e-5,
        "ratios": (0.7, 1.4) if light else (0.5, 2.0),
        "with_mask": with_mask,
        "load_masks": "with_mask=True, poly2mask=True" if with_mask else "with_mask=False",
        "metric": '["bbox", "segm"]' if with_mask else '"bbox"',
        "optimizer": optimizer(size, 0.05 if light else 0.1),
        "layer_decay": 0.9 if light else 0.7,
    }
