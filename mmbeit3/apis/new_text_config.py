"""Write a config that trains on own images with captions, questions or statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from mmbeit3.apis.new_config import (
    LIGHT,
    SCHEDULE,
    SEED,
    USAGE,
    check_free,
    existing_folder,
    num_split_off,
    optimizer,
    said_of_split,
    schedule,
    write_config,
)
from mmbeit3.datasets.image_files import check_images_exist
from mmbeit3.datasets.text_dataset import image_files
from mmbeit3.text import Tokenizer, train_tokenizer
from mmbeit3.utils import InputError, listed

NUM_PIECES = 2000  # of a vocabulary of one's own, at most
OFFICIAL = "beit3.spm"
WEIGHTS = "https://github.com/addf400/files/releases/download/beit3/beit3_{}_patch16_224.pth"
ITC_WEIGHTS = WEIGHTS.replace("{}_", "{}_itc_")


@dataclass(frozen=True)
class Kind:
    """A kind of table, and what is trained on it.

    Args:
        rows: What the table has.
        task: The task.
        does: What the model does, for the head of the config.
        dataset: The data set's type.
        metric: The metric's type.
        img_size: Side of the images that base and large see, as released.
        splits: Whether the data set can set images aside for validation.
        asked: What ``infer`` must be given besides images.
    """

    rows: str
    task: str
    does: str
    dataset: str
    metric: str
    img_size: int
    splits: bool = True
    asked: str = ""


KINDS = {
    "captions": Kind(
        *("captions", "captioning", "captions", "ImageTextTableDataset", "CaptionMetric"),
        img_size=480,
    ),
    "retrieval": Kind(
        *("captions", "retrieval", "retrieval", "ImageTextTableDataset", "RetrievalMetric"),
        img_size=384,
        asked="--texts FILE ",
    ),
    "questions": Kind(
        "questions",
        "vqa",
        "answers",
        "VQATableDataset",
        "VQAMetric",
        img_size=480,
        asked="--questions FILE ",
    ),
    "statements": Kind(
        "statements",
        "nlvr2",
        "judgments",
        "NLVR2TableDataset",
        "NLVR2Metric",
        img_size=224,
        splits=False,
        asked="--statements TABLE ",
    ),
}
HEAD = '''"""BEiT-3 {size}: {does}, from {num_images} {name} of {train_table}.
'''
VALUES = """
_base_ = [
    "mmbeit3::_base_/models/beit3_{task}.py",
    "mmbeit3::_base_/default_runtime_{task}.py",
]

# ============ edit these ============
train_images, train_table = {train_images!r}, {train_table!r}
val_images, val_table = {val_images!r}, {val_table!r}
{set_aside}tokenizer_file = {tokenizer!r}  # {why_tokenizer}
img_size = {img_size}  # images are scaled to this square
"""
BODY = """
# ============ sometimes changed ============
pipeline = [
    {steps}
    dict(type="mmbeit3.PackImageText"),
]
table = dict(
    type="mmbeit3.{dataset}",
{aside_keys}    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(table, ann_file=train_table, data_prefix=dict(img=train_images)),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(table, ann_file=val_table, data_prefix=dict(img=val_images), test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.{metric}")
test_evaluator = val_evaluator

# ============ rarely changed ============
model = dict(
    data_preprocessor=dict(tokenizer=dict(file=tokenizer_file)),
    encoder=dict(
        {encoder}
    ),
{model})
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    {optimizer}
)
warm_up = max(1, max_iters // 20)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=warm_up, end=max_iters, eta_min_ratio=0.01
    ),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=val_interval, max_keep_ckpts=1),
)
randomness = dict(seed=0)
"""
ITEMS = SCHEDULE.replace(" images", " {name}")
IMAGE_STEPS = (  # no crop and no flip: texts say left and right, and count things
    'dict(type="LoadImageFromFile", _scope_="mmbeit3"),',
    'dict(type="Resize", scale=(img_size, img_size), keep_ratio=False),',
)


def write_text_config(
    out: str | Path,
    name: str,
    table: str | Path,
    images: str | Path,
    val: str | Path | None = None,
    val_images: str | Path | None = None,
    size: str = "tiny",
    tokenizer: str | Path | None = None,
) -> list[str]:
    """Write a config that trains on images with texts.

    Args:
        out (str | Path): The config to write; it must not exist.
        name (str): What is learned: to write "captions", "retrieval" of images by captions and
            back, to answer "questions" or to judge "statements".
        table (str | Path): The table to train on (.csv, .tsv, .jsonl), see
            :class:`mmbeit3.datasets.ImageTextTableDataset`,
            :class:`mmbeit3.datasets.VQATableDataset` and
            :class:`mmbeit3.datasets.NLVR2TableDataset`; or captions in COCO's format (.json), see
            :class:`mmbeit3.datasets.CocoCaptionsDataset`.
        images (str | Path): The folder of its images.
        val (str | Path | None): The table to validate on. Defaults to None: a fifth of the images
            of ``table``; statements and captions in COCO's format need one.
        val_images (str | Path | None): The folder of its images. Defaults to None, ``images``.
        size (str): "tiny", "small", "base" or "large". Defaults to "tiny".
        tokenizer (str | Path | None): The tokenizer. Defaults to None: tiny and small get one of
            their own, trained on the texts and written next to the config; base and large have the
            official ``beit3.spm``.

    Returns:
        list[str]: What was found, written and chosen, for a person.

    Raises:
        InputError: ``out`` exists, a table or the tokenizer cannot be used, or images are missing.
    """
    kind, out = KINDS[name], Path(out).expanduser()
    rows, file = kind.rows, Path(table).expanduser().resolve()
    if rows == "captions" and file.suffix.lower() == ".json":
        kind = replace(kind, dataset="CocoCaptionsDataset", splits=False)
    light = size in LIGHT
    own = out.resolve().with_suffix(".spm") if light and tokenizer is None else None
    check_free(out, *([own] if own else []))
    if val is None and val_images is not None:
        raise InputError("needs --val, the table of these images", "val_images")
    if val is None and not kind.splits:
        raise InputError(f"is needed: {rows} of a file of this kind are not split", "val")
    folder = existing_folder(images, "images")
    val_folder = folder if val_images is None else existing_folder(val_images, "val_images")
    items, num_images, classes = read_table(kind, file, folder, training=True)
    texts = [text for item in items for text in item["texts"]]
    lines = [f"{len(items)} {rows} about {num_images} images"]
    if rows == "questions":
        lines[0] += f"; {len(classes)} answers: {listed(classes, 8)}"
    values = vars(kind) | {"set_aside": "", "aside_keys": "", "val_table": str(file)}
    if val is not None:
        values["val_table"] = str(Path(val).expanduser().resolve())
        checked = read_table(kind, Path(values["val_table"]), val_folder, training=False)[0]
        lines.append(f"{len(checked)} to validate on")
    else:
        aside = num_split_off(num_images, "val")
        values["set_aside"] = f"num_aside = {aside}  # images kept for validation\n"
        values["aside_keys"] = f"    val_images=num_aside,\n    val_seed={SEED},\n"
        lines.append(said_of_split(aside, num_images, "--val"))
    if own:
        train_tokenizer(texts, own, NUM_PIECES)
        tokenizer, why = own, f"of the {rows}"
        lines.append(f"wrote {own.name}: a tokenizer of the {rows}")
    else:
        why = "as given" if tokenizer else "the official one; without it, an error says where it is"
        tokenizer = Path(tokenizer or OFFICIAL).expanduser().resolve()
    values |= _values(kind, size, len(items), Path(tokenizer))
    values |= {
        "name": rows,
        "size": size,
        "train_table": str(file),
        "train_images": f"{folder}/",
        "val_images": f"{val_folder}/",
        "tokenizer": str(tokenizer),
        "why_tokenizer": why,
    }
    write_config(out, (HEAD, USAGE, VALUES, ITEMS, BODY), values)
    return [
        *lines,
        f"wrote {out}: {size}, {values['img_size']} pixels, {values['max_iters']} iterations",
    ]


def read_table(
    kind: Kind, table: Path, folder: Path, training: bool
) -> tuple[list[dict], int, Sequence[str]]:
    """The items of a table, the number of their images, which must be there, and the classes."""
    dataset = DATASETS.build(
        dict(
            type=f"mmbeit3.{kind.dataset}",
            ann_file=str(table),
            data_prefix=dict(img=f"{folder}/"),
            test_mode=not training,
            pipeline=[],
            lazy_init=True,
        )
    )
    items = dataset.load_data_list()
    paths = [file.path for file in image_files(items)]
    check_images_exist(paths, str(table), f"{folder}/")
    return items, len(paths), dataset.metainfo.get("classes", ())


def _values(kind: Kind, size: str, number: int, tokenizer: Path) -> dict[str, Any]:
    """The values that follow from the data and the size of the model."""
    light = size in LIGHT
    steps = "\n    ".join(IMAGE_STEPS)
    if kind.task == "nlvr2":
        head = ("dict(", '    type="mmbeit3.ForEachImage",', "    transforms=[")
        inner = (f"        {step}" for step in IMAGE_STEPS)
        steps = "\n    ".join([*head, *inner, "    ],", "),"])
    encoder, model = ['arch="{size}"', "img_size=img_size"], []
    if light:
        vocab_size = Tokenizer(tokenizer).vocab_size
        encoder += [f"vocab_size={vocab_size}", "max_tokens=64", "drop_path_rate=0.0"]
        encoder += ["with_cp=False", "init_cfg=None"]
        model += ["init_cfg=None"]
        if kind.task == "nlvr2":  # the released scale kept a tiny model at chance
            model += ["init_scale=8.0"]
        groups = "clip_grad=dict(max_norm=5.0),"
    else:
        whole = kind.task in ("captioning", "retrieval")  # heads are in the file, too
        weights = ITC_WEIGHTS if kind.task == "retrieval" else WEIGHTS
        indent = "    " * (1 if whole else 2)
        start = f'init_cfg=dict(\n{indent}    checkpoint="{weights.format(size)}"\n{indent})'
        (model if whole else encoder).append(start)
        groups = (
            'constructor="mmbeit3.LayerDecayConstructor",\n'
            "    paramwise_cfg=dict(layer_decay_rate=1.0, flat_decay_mult=0.0),"
        )
    if kind.task == "retrieval":  # a small batch has several captions of an image
        model += ['same_image="positive"', "max_logit_scale=100"]
    if kind.task == "captioning":  # the released run is longer, and its search has oddities
        model += ["drop_worst_ratio=0.0", "generation=dict(max_length=32, released=False)"]
    # The contrast of retrieval is within a batch.
    batch_size = 64 if kind.task == "retrieval" else 16
    return schedule(number, batch_size, size) | {
        "steps": steps,
        "img_size": 128 if light else kind.img_size,
        "encoder": "\n        ".join(f"{key}," for key in encoder).format(size=size),
        "model": "".join(f"    {key},\n" for key in model),
        "learning_rate": {"tiny": 1e-3, "small": 5e-4}.get(size, 3e-5),
        "optimizer": f"{optimizer(size, 0.01)}\n    {groups}",
    }
