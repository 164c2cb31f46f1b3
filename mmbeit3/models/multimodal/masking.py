"""Masks of masked data modeling: blocks of an image's patches, and words of texts.

Each mask follows from a number of its sample alone. The data set draws that number where it draws
the sample's augmentation, so that a sample has the same mask on any number of processes, in any
micro-batch and after resuming; the masks are drawn in the model, which alone knows the grid of
patches and the ids of the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor

from mmbeit3.text.tokenizer import UNKNOWN
from mmbeit3.utils import InputError

MIN_BLOCK = 16  # patches
ASPECT = (0.3, 1 / 0.3)  # height over width of a block
TRIES = 10  # of placing a block
KEPT, RANDOM = 0.1, 0.1  # shares of the masked words that stay, or become another word


def count_masked(total: int, rate: float) -> int:
    """How many of ``total`` tokens a rate masks, rounded half up."""
    return math.floor(total * rate + 0.5)


def check_rate(name: str, rate: float) -> None:
    """Raise an InputError unless a rate is above 0 and below 1."""
    if not 0 < rate < 1:
        raise InputError(f"{name} is {rate}; expected above 0 and below 1")


def mask_blocks(height: int, width: int, count: int, seed: int) -> np.ndarray:
    """Mask patches by blocks, as BEiT does (arXiv 2106.08254, algorithm 1).

    Blocks of at least 16 patches, of an aspect ratio of 0.3 to 1 / 0.3, are laid over each other
    until no further one of what is left fits in ten tries. Patches drawn one by one make up what
    then lacks, so that the count is exact on any grid.

    Args:
        height (int): Rows of patches.
        width (int): Columns of patches.
        count (int): Patches to mask, at most all.
        seed (int): What the mask follows from.

    Returns:
        np.ndarray: (height, width) bool, True where masked.
    """
    draw, mask = Random(seed), np.zeros((height, width), dtype=bool)
    left = count
    while left > 0 and (added := _add_block(mask, left, draw)):
        left -= added
    if left > 0:
        free = np.flatnonzero(~mask).tolist()
        mask.flat[draw.sample(free, left)] = True
    return mask


def _add_block(mask: np.ndarray, left: int, draw: Random) -> int:
    """Add a block with at most ``left`` new patches; returns how many are new, 0 if none fits."""
    rows, columns = mask.shape
    for _ in range(TRIES):
        area = draw.uniform(MIN_BLOCK, left)  # the last one may be smaller
        aspect = math.exp(draw.uniform(*map(math.log, ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < rows and 0 < width < columns):
            continue
        top, start = draw.randint(0, rows - height), draw.randint(0, columns - width)
        block = mask[top : top + height, start : start + width]
        new = block.size - int(block.sum())
        if 0 < new <= left:
            block[:] = True
            return new
    return 0


def mask_images(
    number: int, height: int, width: int, rate: float, seeds: Sequence[int] | None = None
) -> Tensor:
    """Mask the same share of the patches of each image, see :func:`mask_blocks`.

    Args:
        number (int): B, of the images.
        height (int): Rows of patches.
        width (int): Columns of patches.
        rate (float): Share of the patches; their count is rounded half up, and at least 1.
        seeds (Sequence[int], optional): B numbers that the masks follow from. Defaults to None:
            drawn from torch's generator of the CPU.

    Returns:
        Tensor: (B, height * width) bool on the CPU, True where masked.
    """
    count = max(count_masked(height * width, rate), 1)
    masks = [mask_blocks(height, width, count, seed) for seed in _seeds(number, seeds)]
    return torch.from_numpy(np.stack(masks)).flatten(1)


def mask_texts(
    ids: Tensor,
    rate: float,
    mask_id: int,
    seeds: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mask the same share of the words of each text.

    As in the released code for captioning, 80 % of the chosen words become the mask token, 10 %
    another word, and 10 % stay as they are; all are to be told. Special tokens are never chosen,
    nor put in: begin, end, padding and unknown.

    Args:
        ids (Tensor): (B, N) int64.
        rate (float): Share of the words of a text; their count is rounded half up, and at least 1
            where there is a word.
        mask_id (int): The mask token's; the ids of words are those below, from 4 on.
        seeds (Sequence[int], optional): B numbers that the masks follow from. Defaults to None:
            drawn from torch's generator of the CPU.

    Returns:
        tuple[Tensor, Tensor]: (B, N) ids as the model is to see them; (B, N) bool, True at the
        chosen words; both on the device of ``ids``.
    """
    masked = ids.to("cpu", copy=True)
    is_word = (masked > UNKNOWN) & (masked < mask_id)
    chosen = torch.zeros_like(is_word)
    for row, seed in enumerate(_seeds(len(ids), seeds)):
        draw = Random(seed)
        words = is_word[row].nonzero().flatten().tolist()
        count = max(count_masked(len(words), rate), min(len(words), 1))
        places = draw.sample(words, count)
        new = []
        for place in places:
            kind = draw.random()
            word = mask_id
            if kind < RANDOM:
                word = draw.randrange(UNKNOWN + 1, mask_id)
            elif kind < RANDOM + KEPT:
                word = int(masked[row, place])
            new.append(word)
        masked[row, places] = torch.tensor(new, dtype=masked.dtype)
        chosen[row, places] = True
    masked, chosen = (part.to(ids.device, non_blocking=True) for part in (masked, chosen))
    return masked, chosen


def _seeds(number: int, seeds: Sequence[int] | None) -> Sequence[int]:
    return torch.randint(2**62, (number,)).tolist() if seeds is None else seeds
