"""Write the configs that pretrain on a folder of images: an image tokenizer, then the model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from mmbeit3.apis.new_config import existing_folder, optimizer
from mmbeit3.apis.new_text_config import KINDS, NUM_PIECES, OFFICIAL, WEIGHTS, read_table
from mmbeit3.datasets import ImagesDataset, LoadImageFromFile, TextLinesDataset
from mmbeit3.datasets.image_files import read_size
from mmbeit3.models import HOGTeacher, PixelTeacher, TimmTeacher
from mmbeit3.text import Tokenizer, train_tokenizer
from mmbeit3.utils import InputError
from mmbeit3.utils.whole_files import write_whole

TOKENIZER, PRETRAINING = "image_tokenizer", "pretraining"  # the configs and their work dirs
SIZES = ("tiny", "base")
VAL_SHARE, MOST_ASIDE = 10, 500  # one image of ten is kept for validation, and 500 at most
PER_CODE = 10  # patches that a code needs at least
EDGE_CODES = 1024  # codes of edges, where there are images enough for them
LOOKED_AT = 200  # images whose sizes are looked at
MOST_TEXTS = 200_000  # from which a tokenizer is trained


@dataclass(frozen=True)
class Size:
    """A size of the model, and what goes with it.

    Args:
        img_size: Side of the images in pixels.
        patch_size: Side of a patch.
        num_codes: Codes of its image tokenizer; of edges more, where the images suffice.
        batch_size: Images of a step.
        workers: Processes that load images.
        lr: Learning rate of the pretraining.
        tokenizer_lr: Learning rate of the image tokenizer.
        least: Iterations at least, of the tokenizer and of the pretraining.
        most: And at most.
        passes: Passes over the images, where that lies in between.
        pack: Bytes of an item of texts, about as many as the model has places for.
    """

    img_size: int
    patch_size: int
    num_codes: int
    batch_size: int
    workers: int
    lr: float
    tokenizer_lr: float
    least: tuple[int, int]
    most: tuple[int, int]
    pack: int
    passes: tuple[int, int] = (10, 20)

    def iterations(self, number: int, num_images: int) -> int:
        """How many, by default, of the first or the second training."""
        wanted = math.ceil(self.passes[number] * num_images / self.batch_size)
        return min(max(wanted, self.least[number]), self.most[number])


CHOICES = {
    "tiny": Size(128, 8, 256, 16, 1, 1e-3, 1e-3, (300, 1000), (2000, 20_000), 160),
    "base": Size(224, 16, 8192, 64, 4, 1e-4, 2e-4, (2000, 2000), (50_000, 100_000), 256),
}

HEAD = '''"""{title}, from {num_images} images of {images}.

Written by `mmbeit3 pretrain`, which goes on by `mmbeit3 pretrain --out {folder}`. By itself:
    mmbeit3 check-data {out}
    mmbeit3 train {out} --resume
    mmbeit3 test {out} CHECKPOINT
"""
'''
VALUES = """
_base_ = [
{bases}]

# ============ edit these ============
images_folder = {images!r}
num_aside = {num_aside}  # images kept for validation
{tables}work_dir = {work_dir!r}
batch_size = {batch_size}  # images of a step; fewer need less memory
max_iters = {max_iters}  # steps: about {epochs} times each of the {num_images} images
val_interval = {val_interval}  # steps between validations, each with a checkpoint
learning_rate = {lr}

# ============ sometimes changed ============
{sides}
image_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    {augment}
    dict(type="PackImageText"),
]
val_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="ResizeCenterCrop", scale=img_size),
    dict(type="PackImageText"),
]
images = dict(
    type="mmbeit3.ImagesDataset",
    data_root=images_folder,
    skip_unreadable=True,
    val_images=num_aside,
)
"""
TEXTS = """texts = dict(
    type="mmbeit3.TextLinesDataset",
    files=text_files,
    pack={pack},  # bytes: as many lines as fit
    pipeline=[dict(type="PackImageText")],
)
"""
PAIRS = """pair_pipeline = [  # no crop and no flip: texts say left and right, and count things
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(img_size, img_size), keep_ratio=False),
    dict(type="PackImageText"),
]
pairs = dict(
    type="mmbeit3.ImageTextTableDataset",
    ann_file=pairs_table,
    data_prefix=dict(img=images_folder),
    val_images=num_pairs_aside,
    pipeline=pair_pipeline,
)
"""
LOADERS = """train_dataloader = dict(
    batch_size=batch_size,
    num_workers={workers},
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset={train},
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers={workers},
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
{collate}    dataset={val},
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.{metric}")
test_evaluator = val_evaluator

# ============ rarely changed ============
{model}
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    {optimizer}
    clip_grad=dict(max_norm=3.0),
{groups})
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
GROUPS = """    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0, flat_decay_mult=0.0),
"""
AUGMENT = {
    "tiny": 'dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),\n'
    '    dict(type="RandomFlip", prob=0.5),',
    "base": 'dict(type="TimmAugment", scale=img_size, crop_area=(0.2, 1.0), color_jitter=0.4),',
}
PARTED = """dict(
        type="mmbeit3.PretrainingDataset",{test_mode}
        datasets=dict(
{parts}        ),
    )"""
VQKD = {
    "tiny": 'type="mmbeit3.VQKD",\n'
    "{indent}arch=dict(embed_dims=96, num_layers=2, num_heads=4, feedforward_channels=384),\n"
    "{indent}img_size=img_size,\n{indent}patch_size=patch_size,\n{indent}decoder_layers=1,\n"
    "{indent}num_codes=256,\n{indent}code_dims=16,\n",
    "base": 'type="mmbeit3.VQKD",\n{indent}arch="base",\n{indent}img_size=img_size,\n'
    "{indent}patch_size=patch_size,\n{indent}decoder_layers=3,\n",
}
EDGE_BOOK = """type="mmbeit3.TeacherCodes",
{{indent}}teacher=dict(type="mmbeit3.EdgeTeacher", patch_size=patch_size),
{{indent}}img_size=img_size,
{{indent}}patch_size=patch_size,
{{indent}}num_codes={num_codes},
"""


def write_pretraining_configs(
    out: Path,
    images: str | Path,
    texts: Sequence[str | Path] = (),
    pairs: str | Path | None = None,
    size: str = "tiny",
    teacher: str | None = None,
    tokenizer: str | Path | None = None,
    iters: tuple[int | None, int | None] = (None, None),
) -> list[str]:
    """Write both configs, and where it is needed the tokenizer of the texts.

    Args:
        out (Path): The folder to write into; both are trained in it.
        images (str | Path): The folder of the images.
        texts (Sequence[str | Path]): Text files. Defaults to none.
        pairs (str | Path | None): A table of images, below ``images``, and texts. Defaults to None.
        size (str): "tiny" or "base". Defaults to "tiny".
        teacher (str | None): What the image tokenizer learns from: "edges", "hog", "pixels" or a
            model of timm. Defaults to None: "edges" of tiny; base has the official tokenizer.
        tokenizer (str | Path | None): That of the texts. Defaults to None: tiny gets one of its
            own, base has the official ``beit3.spm``.
        iters (tuple[int | None, int | None]): Of the image tokenizer, which takes no more than by
            default, and of the model. Defaults to None, by the number of images.

    Returns:
        list[str]: What was found and chosen, for a person.

    Raises:
        InputError: The data cannot be used.
    """
    choice, out = CHOICES[size], out.resolve()
    root = existing_folder(images, "images")
    text_files = [str(Path(file).expanduser().resolve()) for file in texts]
    table = None if pairs is None else str(Path(pairs).expanduser().resolve())
    found = _find_images(root)
    num_aside = min(MOST_ASIDE, max(1, len(found) // VAL_SHARE))
    num_images = len(found) - num_aside
    lines = [f"{len(found)} images, {num_aside} of them kept for validation"]
    lines += _describe_sizes(found, choice.img_size)
    own_book = size == "tiny" or teacher is not None
    if own_book:
        teacher = teacher or "edges"
        if teacher == "edges" and num_images >= _images_needed(EDGE_CODES, choice):
            choice = replace(choice, num_codes=max(EDGE_CODES, choice.num_codes))
        _check_book(root, num_images, choice)
    values: dict[str, Any] = vars(choice) | {
        "folder": out,
        "images": f"{root}/",
        "num_images": num_images,
        "num_aside": num_aside,
        "batch_size": min(choice.batch_size, num_images),
        "augment": AUGMENT[size],
        "sides": f"img_size, patch_size = {choice.img_size}, {choice.patch_size}",
        "tables": "",
    }
    contents: dict[str, str] = {}
    if teacher is not None:
        book, trained_book = _image_tokenizer(teacher, size, choice)
        values |= {
            "title": f"An image tokenizer for BEiT-3 {size}, which learns from {teacher}",
            "metric": "CodeBookMetric",
            "collate": "",
            "train": "dict(images, pipeline=image_pipeline)",
            "val": "dict(images, pipeline=val_pipeline, test_mode=True)",
            "model": f"model = dict(\n    {trained_book.format(indent='    ')}"
            '    data_preprocessor=dict(type="mmbeit3.ImageTextPreprocessor"),\n)',
            "lr": choice.tokenizer_lr,
            "optimizer": optimizer(size, 1e-4, beta2=0.99),
            "groups": "",
        }
        usual = choice.iterations(0, num_images)
        number = min(usual, iters[0] or iters[1] or usual)
        contents[TOKENIZER] = _content(TOKENIZER, values, number, "")
        lines.append(f"image tokenizer: {choice.num_codes} codes, from {teacher}, {number} steps")
    else:
        values["sides"] = f"img_size = {choice.img_size}"
        lines.append("image tokenizer: the official one, with CLIP as its teacher")
    tables, further, spm = "", "", None
    if text_files:
        tables += f"text_files = {text_files!r}\n"
        further += TEXTS.format(pack=choice.pack)
        lines.append(f"texts: {len(text_files)} files")
    sentences: list[str] = []
    if table is not None:
        items, number, _ = read_table(KINDS["captions"], Path(table), root, training=True)
        aside = min(MOST_ASIDE, max(1, number // VAL_SHARE))
        sentences = [text for item in items for text in item["texts"]]
        tables += f"pairs_table = {table!r}\nnum_pairs_aside = {aside}\n"
        further += PAIRS
        lines.append(f"pairs: {len(items)}, about {number} images")
    if tables:
        spm = _text_tokenizer(out, size, tokenizer, text_files, sentences)
        tables += f"tokenizer_file = {str(spm)!r}  # of the texts\n"
    parts = [name for name, given in (("texts", text_files), ("pairs", table)) if given]
    values |= {
        "title": f"Masked data modeling of BEiT-3 {size}",
        "tables": tables,
        "metric": "MaskedTokenMetric",
        "collate": '    collate_fn=dict(type="mmbeit3.collate_parts"),\n',
        "train": _parted(["images=dict(images, pipeline=image_pipeline)"], parts, ""),
        "val": _parted(
            ["images=dict(images, pipeline=val_pipeline, test_mode=True)"],
            ["pairs"] if table else [],
            "test_mode=True",
        ),
        "model": _model(size, choice, out, book if own_book else None, spm, parts),
        "lr": choice.lr,
        "optimizer": optimizer(size, 0.05, beta2=0.98, amp=True),  # betas as the paper
        "groups": GROUPS,
    }
    number = iters[1] or choice.iterations(1, num_images)
    contents[PRETRAINING] = _content(PRETRAINING, values, number, further)
    for name, content in contents.items():
        write_whole(out / f"{name}.py", content)
    return [*lines, f"model: {size}, {choice.img_size} pixels, {number} steps"]


def weights_of(out: Path, name: str) -> Path:
    """Where the weights of one of both trainings go."""
    return out / f"{name}.pth"


def _find_images(root: Path) -> list[str]:
    """The images that can be read; others are counted in a warning."""
    loader = dict(type="mmbeit3.LoadImageFromFile")
    dataset = ImagesDataset(f"{root}/", skip_unreadable=True, pipeline=[loader])
    return [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]


def _describe_sizes(paths: Sequence[str], img_size: int) -> list[str]:
    loader = LoadImageFromFile()
    step = -(-len(paths) // LOOKED_AT)
    sides = [min(read_size(path, loader).loaded) for path in paths[::step]]
    small = sum(side < img_size for side in sides)
    lines = [f"shorter side of the images: {statistics.median_low(sides)} pixels, the median"]
    if small:
        looked = "" if step == 1 else f" of {len(sides)} that were looked at"
        lines.append(f"{small}{looked} are smaller than {img_size} pixels, and are enlarged")
    return lines


def _images_needed(num_codes: int, choice: Size) -> int:
    """How many images have patches enough for so many codes."""
    return math.ceil(PER_CODE * num_codes / (choice.img_size // choice.patch_size) ** 2)


def _check_book(root: Path, num_images: int, choice: Size) -> None:
    patches = (choice.img_size // choice.patch_size) ** 2
    needed = _images_needed(choice.num_codes, choice)
    if num_images < needed:
        raise InputError(
            f"{root} has {num_images} images to train on, of {patches} patches each: too few for a "
            f"book of {choice.num_codes} codes, which has {PER_CODE} patches a code; expected "
            f"{needed} images or more besides those for validation: add some",
            "images",
        )


def _image_tokenizer(teacher: str, size: str, choice: Size) -> tuple[str, str]:
    """Arguments of an image tokenizer as code: to ask it, and to train it."""
    if teacher == "edges":  # they are computed from the pixels each time
        code = EDGE_BOOK.format(num_codes=choice.num_codes)
        return code, code
    if teacher in ("hog", "pixels"):
        kind = HOGTeacher if teacher == "hog" else PixelTeacher
        code = f'dict(type="mmbeit3.{kind.__name__}", patch_size=patch_size)'
        channels = kind(choice.patch_size).out_channels
    else:
        code = f'dict(type="mmbeit3.TimmTeacher", model={teacher!r}, pretrained=True)'
        try:
            channels = TimmTeacher(teacher).out_channels
        except InputError as error:
            raise InputError(
                f"is {teacher!r}, expected edges, hog, pixels or a model of timm: {error}",
                "teacher",
            ) from error
    return (
        f"{VQKD[size]}{{indent}}out_channels={channels},\n",
        f"{VQKD[size]}{{indent}}teacher={code},\n",
    )


def _text_tokenizer(
    out: Path,
    size: str,
    given: str | Path | None,
    files: Sequence[str],
    sentences: Sequence[str],
) -> Path:
    """The tokenizer of the texts, which can be read."""
    if given is not None or size != "tiny":
        file = Path(given or OFFICIAL).expanduser().resolve()
        Tokenizer(file)
        return file
    lines: TextLinesDataset | list = TextLinesDataset(files) if files else []
    texts = (lines[index]["texts"][0] for index in range(min(len(lines), MOST_TEXTS)))
    return train_tokenizer(chain(sentences, texts), out / "texts.spm", NUM_PIECES)


def _parted(first: list[str], names: Sequence[str], test_mode: str) -> str:
    more = ", test_mode=True" if test_mode else ""
    entries = first + [f"{name}=dict({name}{more})" for name in names]
    return PARTED.format(
        test_mode=f"\n        {test_mode}," if test_mode else "",
        parts="".join(f"            {entry},\n" for entry in entries),
    )


def _model(
    size: str, choice: Size, out: Path, book: str | None, spm: Path | None, parts: Sequence[str]
) -> str:
    """The model of the pretraining as code, with its own image tokenizer if it has one."""
    lines = ["model = dict("]
    if size == "tiny":
        vocab_size = Tokenizer(spm).vocab_size if spm else 64
        lines += [
            '    type="mmbeit3.BEiT3Pretraining",',
            "    encoder=dict(",
            '        type="mmbeit3.BEiT3Multiway",',
            '        arch="tiny",',
            "        img_size=img_size,",
            "        patch_size=patch_size,",
            f"        vocab_size={vocab_size},",
            "        max_tokens=64,",
            "    ),",
            f"    num_codes={choice.num_codes},",
            # From random weights a tower must first find what codes are.
            "    loss_weights=dict(visible_image=1.0, visible_pair_image=1.0),",
            '    data_preprocessor=dict(type="mmbeit3.PretrainingPreprocessor"),',
        ]
        if spm:
            lines[-1] = (
                '    data_preprocessor=dict(\n        type="mmbeit3.PretrainingPreprocessor", '
                "tokenizer=dict(file=tokenizer_file)\n    ),"
            )
    else:
        file = "dict(file=tokenizer_file)" if spm else "None"
        lines += [
            f'    init_cfg=dict(type="Pretrained", checkpoint="{WEIGHTS.format(size)}"),',
            f"    data_preprocessor=dict(tokenizer={file}),",
        ]
    if book is not None:
        own = book.format(indent="        ").rstrip("\n")
        start = f'init_cfg=dict(type="Pretrained", checkpoint={str(weights_of(out, TOKENIZER))!r}),'
        lines.append(f"    image_tokenizer=dict(\n        {own}\n        {start}\n    ),")
    lines.append(")")
    if len(parts) < 2:
        lines.append("find_unused_parameters = True  # with several GPUs: the towers of what lacks")
    return "\n".join(lines)


def _content(name: str, values: dict[str, Any], number: int, further: str) -> str:
    """Fill in a config."""
    bases = ["default_runtime_pretraining"]
    if name == PRETRAINING and values["img_size"] == CHOICES["base"].img_size:
        bases.insert(0, "models/beit3_pretraining")
    values = values | {
        "out": values["folder"] / f"{name}.py",
        "work_dir": str(values["folder"] / name),
        "bases": "".join(f'    "mmbeit3::_base_/{base}.py",\n' for base in bases),
        "max_iters": number,
        "val_interval": math.ceil(number / 5),
        "epochs": round(number * values["batch_size"] / values["num_images"]),
    }
    text = "".join(part.format(**values) for part in (HEAD, VALUES))
    return text + further + LOADERS.format(**values)
