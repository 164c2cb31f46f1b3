"""Write a config for own data, with values that follow from the data."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import median
from typing import Any

from mmbeit3.datasets.checks.coco import read_json
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole

LIGHT = ("tiny", "small")
OBJECT_SIDE = 32  # pixels that the median object of a light model has: four of its patches
VAL_SHARE, SEED = 5, 0  # one image of five
PRETRAINED = "https://github.com/addf400/files/releases/download/beit3/beit3_{}_itc_patch16_224.pth"
MIN_ITERS, EPOCHS = 900, 20

HEAD = '''"""BEiT-3 {size} Cascade Mask R-CNN on {num_images} images of {train}.

Written by `mmbeit3 new-config`. It works in any folder:
    mmbeit3 check-data {out}
    mmbeit3 train {out}
    mmbeit3 test {out} CHECKPOINT
    mmbeit3 infer {out} CHECKPOINT FOLDER --out-dir DIR
"""

_base_ = [
    "mmbeit3::_base_/models/{model}.py",
    "mmbeit3::_base_/default_runtime.py",
]

# ============ edit these ============
train_ann, train_images = {train!r}, {train_images!r}
val_ann, val_images = {val!r}, {val_images!r}
# The classes are those of train_ann, in its order: {classes}
image_size = {image_size}  # {why}
batch_size = {batch_size}
max_iters = {max_iters}  # steps of batch_size images: about {epochs} times each image
learning_rate = {learning_rate}
'''
BODY = """
# ============ sometimes changed ============
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=True),
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
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
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
val_evaluator = dict(type="mmbeit3.CocoMetric", ann_file=val_ann, metric=["bbox", "segm"])
test_evaluator = val_evaluator

# ============ rarely changed ============
model = dict({model_keys})
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max(1, max_iters // 3))
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    {wrapper},
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), weight_decay={decay}),
    clip_grad=dict(max_norm=10.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate={layer_decay}),
)
warm_up = min(50, max_iters // 10)
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
    checkpoint=dict(interval=max(1, max_iters // 3), max_keep_ckpts=1),
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
        InputError: ``out`` exists, or the data are absent or without images, boxes or classes.
    """
    out, coco = Path(out).expanduser(), Path(coco).expanduser().resolve()
    images = Path(images).expanduser().resolve()
    folder = Path(val_images).expanduser().resolve() if val_images else images
    if out.exists():
        raise InputError(f"{out} exists already; give another --out, or remove it")
    for path in (images, folder):
        if not path.is_dir():
            raise InputError(f"the folder of images {path} does not exist")
    content = _read(coco)
    lines, train_file, train = [], coco, content
    if val is None:
        train, held_out = _split(content)
        train_file, val_file = (
            out.resolve().with_name(f"{out.stem}_{part}.json") for part in ("train", "val")
        )
        for file, part in ((train_file, train), (val_file, held_out)):
            if file.exists():
                raise InputError(f"{file} exists already; give another --out, or remove it")
            write_whole(file, json.dumps(part).encode())
        lines.append(
            f"no --val: {len(held_out['images'])} of {len(content['images'])} images, drawn with "
            f"seed {SEED}, are kept for validation: {val_file.name}; trained on: {train_file.name}"
        )
    else:
        val_file = Path(val).expanduser().resolve()
        _read(val_file)
    values = _values(train, size) | dict(
        size=size,
        out=out.name,
        train=str(train_file),
        val=str(val_file),
        train_images=f"{images}/",
        val_images=f"{folder}/",
    )
    write_whole(out, (HEAD.format(**values) + BODY.format(**values)).encode())
    return [
        *lines,
        f"wrote {out}: {size}, {values['image_size']} pixels ({values['why']}), "
        f"{values['max_iters']} iterations, classes {values['classes']}",
    ]


def _read(file: Path) -> dict[str, Any]:
    content = read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not content.get(key):
            raise InputError(f"{file} has no {key}; expected annotations in COCO format")
    return content


def _split(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    images = sorted(content["images"], key=lambda image: str(image["id"]))
    if len(images) < 2:
        raise InputError("one image cannot be split; give --val")
    random.Random(SEED).shuffle(images)
    count = max(1, len(images) // VAL_SHARE)
    parts = []
    for chosen in (images[count:], images[:count]):
        ids = {image["id"] for image in chosen}
        own = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        parts.append(content | {"images": chosen, "annotations": own})
    return parts[0], parts[1]


def _values(content: dict[str, Any], size: str) -> dict[str, Any]:
    """The values that follow from the data and the size of the model."""
    images = content["images"]
    side = median(max(image["width"], image["height"]) for image in images)
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in content["annotations"]]
    sides = [area**0.5 for area in areas if area > 0]
    if not sides:
        raise InputError("no annotation has a box with an area")
    light = size in LIGHT
    if light:
        wanted = round(side * OBJECT_SIDE / median(sides) / 32) * 32
        image_size = min(max(wanted, 128), 384)
        at_size = median(sides) * image_size / side
        why = f"of the longer side: the median object is about {at_size:.0f} pixels then"
    else:
        image_size = min(1024, max(256, round(side / 32) * 32))
        why = f"square that images are scaled to fit; their median longer side is {side:.0f}"
    batch = 2
    max_iters = max(MIN_ITERS, EPOCHS * len(images) // batch)
    names = ", ".join(category["name"] for category in content["categories"][:8])
    more = len(content["categories"]) - 8
    if light:
        model = f"cascade-mask-rcnn_beit3-{size}_sfp"
        keys = "backbone=dict(img_size=image_size)"
    else:
        model = "cascade-mask-rcnn_beit3_sfp"
        width = "" if size == "base" else ", neck=dict(in_channels=1024)"
        keys = (
            f'backbone=dict(arch="{size}", init_cfg=dict(checkpoint="{PRETRAINED.format(size)}"))'
            f"{width}"
        )
    return dict(
        num_images=len(images),
        model=model,
        model_keys=keys,
        classes=names + (f" and {more} more" if more > 0 else ""),
        image_size=image_size,
        why=why,
        batch_size=batch,
        max_iters=max_iters,
        epochs=round(max_iters * batch / len(images)),
        learning_rate=3e-4 if light else 5e-5,
        ratios=(0.7, 1.4) if light else (0.5, 2.0),
        wrapper='type="OptimWrapper"'
        if light
        else 'type="mmbeit3.AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0',
        decay=0.05 if light else 0.1,
        layer_decay=0.9 if light else 0.7,
    )
