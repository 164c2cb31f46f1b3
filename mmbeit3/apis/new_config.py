"""What configs for own data share: where they are written, the split, the length of a training."""

from __future__ import annotations

import difflib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbeit3.utils import InputError, listed
from mmbeit3.utils.similar_paths import similar_files
from mmbeit3.utils.whole_files import write_whole

LIGHT = ("tiny", "small")  # sizes that start from random weights, for a CPU
VAL_SHARE, SEED = 5, 0  # one image of five
PRETRAINED = "https://github.com/addf400/files/releases/download/beit3/beit3_{}_itc_patch16_224.pth"
WIDTHS = {"base": 768, "large": 1024}
MIN_ITERS, EPOCHS = 900, 20
LONG = 3000  # iterations from which on a training has more than three validations

USAGE = '''
Written by `mmbeit3 new-config`. It works in any folder:
    mmbeit3 check-data {out}
    mmbeit3 train {out}
    mmbeit3 test {out} CHECKPOINT
    mmbeit3 infer {out} CHECKPOINT FOLDER {asked}--out-dir DIR
"""
'''
SCHEDULE = """\
batch_size = {batch_size}  # images of a step; fewer need less memory
max_iters = {max_iters}  # steps: about {epochs} times each of the {num_images} images
val_interval = {val_interval}  # steps between validations, each with a checkpoint
learning_rate = {learning_rate}  # {why_lr}
"""


def check_free(out: Path, *others: Path) -> None:
    """Refuse to overwrite anything.

    Args:
        out: The config to write.
        *others: Files that are written next to it.

    Raises:
        InputError: One of them is there, or ``out`` is no name of a config.
    """
    if out.suffix != ".py":
        raise InputError(f"is {out}, expected a name that ends in .py: {out.name}.py", "out")
    for file in (out, *others):
        if file.exists():
            raise InputError(f"{file} exists already; give another --out, or remove it")


def existing_folder(folder: str | Path, argument: str) -> Path:
    """The full path of a folder.

    Args:
        folder: The folder.
        argument: The argument that names it, for the message.

    Raises:
        InputError: There is no such folder.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}; expected a folder of files{_beside(path)}", argument)
    return path


def _beside(path: Path) -> str:
    """What a folder that is not there may have been meant to be, as the end of a message."""
    if path.exists() or not path.parent.is_dir():
        return "" if path.exists() else similar_files(path)
    folders = sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir())
    similar = difflib.get_close_matches(path.name, folders, n=3, cutoff=0.5) or folders
    return f"; folders there: {listed(similar, 8)}" if similar else ""


def split_off(items: Sequence[Any], argument: str) -> tuple[list[Any], list[Any]]:
    """Keep a fifth of the items for validation, the same each time.

    Args:
        items: The items, in an order that does not change.
        argument: The argument that makes a split unnecessary, for the message.

    Returns:
        Those to train on and those to validate on, each in their order.

    Raises:
        InputError: There are fewer than two.
    """
    count = num_split_off(len(items), argument)
    numbers = list(range(len(items)))
    random.Random(SEED).shuffle(numbers)
    held_out = set(numbers[:count])
    return (
        [item for number, item in enumerate(items) if number not in held_out],
        [items[number] for number in sorted(held_out)],
    )


def num_split_off(number: int, argument: str) -> int:
    """How many of so many images are kept for validation; see :func:`split_off`."""
    if number < 2:
        raise InputError("is needed: one image cannot be split", argument)
    return max(1, number // VAL_SHARE)


def said_of_split(
    num_val: int, num_images: int, argument: str, files: Sequence[Path] | None = None
) -> str:
    """Say what was kept for validation.

    Args:
        num_val: How many images.
        num_images: Of how many.
        argument: The option that would have named others.
        files: The lists that were written, of those to train on and those to validate on. Defaults
            to None: the data set draws them.
    """
    text = (
        f"no {argument}: {num_val} of {num_images} images, drawn with seed {SEED}, are kept for "
        "validation"
    )
    return f"{text}: {files[1].name}; trained on: {files[0].name}" if files else text


def schedule(num_images: int, batch_size: int, size: str) -> dict[str, Any]:
    """The values of :data:`SCHEDULE` but for the learning rate.

    Args:
        num_images: Images to train on.
        batch_size: Images of a step.
        size: The size of the model.
    """
    batch_size = min(batch_size, num_images)
    max_iters = max(MIN_ITERS, EPOCHS * num_images // batch_size)
    return {
        "num_images": num_images,
        "batch_size": batch_size,
        "max_iters": max_iters,
        "epochs": round(max_iters * batch_size / num_images),
        "val_interval": math.ceil(max_iters / (3 if max_iters < LONG else 10)),
        "why_lr": "from random weights"
        if size in LIGHT
        else "of pretrained weights; too large a value destroys them",
    }


def pretrained_backbone(size: str) -> str:
    """The arguments of ``model`` that choose a pretrained size, as code."""
    checkpoint = PRETRAINED.format(size)
    return (
        f'backbone=dict(\n        arch="{size}",\n'
        f'        init_cfg=dict(\n            checkpoint="{checkpoint}"\n        ),\n    ),\n'
        f"    neck=dict(in_channels={WIDTHS[size]}),"
    )


def optimizer(size: str, weight_decay: float, beta2: float = 0.999, amp: bool = False) -> str:
    """The arguments of ``optim_wrapper`` that all tasks have, as code.

    Args:
        size: The size of the model.
        weight_decay: That of the optimizer.
        beta2: Its second beta. Defaults to 0.999.
        amp: Train in bfloat16 (:class:`mmbeit3.engine.AmpOptimWrapper`) in any size. Defaults to
            False: from ``base`` on.
    """
    kind = (
        'type="OptimWrapper",'
        if size in LIGHT and not amp
        else 'type="mmbeit3.AmpOptimWrapper",\n    dtype="bfloat16",\n    loss_scale=1.0,'
    )
    return (
        f"{kind}\n    optimizer=dict("
        f'type="AdamW", lr=learning_rate, betas=(0.9, {beta2}), weight_decay={weight_decay}),'
    )


def write_config(out: Path, parts: Sequence[str], values: dict[str, Any]) -> None:
    """Fill in a config and write it.

    Args:
        out: The file.
        parts: Its text, with the names of values in braces.
        values: The values; ``asked`` ("") has the options without which the model cannot infer.
    """
    values = {"asked": ""} | values | {"out": out.name}
    write_whole(out, "".join(part.format(**values) for part in parts).encode())
