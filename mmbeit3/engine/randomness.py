"""Random numbers as a function of where training stands, so that resuming repeats them exactly.

A generator whose state runs through a whole training has to be saved at every checkpoint, in every
process and every data worker. Here the generators are seeded anew for each sample and each
micro-batch, from the training's seed and a position alone, as JAX programs do: a run that was
killed, or one on another number of devices, draws the same numbers at the same position.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for; equal positions of two streams draw different numbers."""

    WEIGHTS = 0
    ORDER = 1
    SAMPLE = 2
    MODEL = 3
    VALIDATION = 4


def seed_generators(seed: int, stream: Stream, position: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) for one position.

    Args:
        seed (int): The training's seed.
        stream (Stream): What the numbers are for.
        position (int): Which sample, or which micro-batch, counted over all processes.
    """
    words = derive(seed, stream, position)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))


def derive(seed: int, stream: Stream, position: int) -> np.ndarray:
    """Mix seed, stream and position into four words of 32 bits."""
    return np.random.SeedSequence((seed, stream, position)).generate_state(4)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Give the generators of Python, NumPy and the CPU back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
