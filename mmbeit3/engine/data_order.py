"""The order of the training data, and each sample's random numbers, as functions of a position."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sized
from typing import Any

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from mmbeit3.engine.data_workers import DatasetWrapper, describe_sample
from mmbeit3.engine.randomness import Stream, derive, generators_kept, seed_generators
from mmbeit3.utils import InputError


class SampleIndex(int):
    """Index into a data set that knows its position in the order of the whole training."""

    position: int

    def __new__(cls, index: int, position: int) -> SampleIndex:
        """Make the index ``index`` of the sample at ``position``."""
        self = super().__new__(cls, index)
        self.position = position
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.position)


class MicroBatchSampler(Sampler):
    """Endless order of samples, divided into micro-batches over processes and accumulation steps.

    All samples in a new order, again and again. Micro-batch m has the positions m * B .. m * B +
    B - 1; process r of W runs the micro-batches r, W + r, 2 W + r, ... Which images make one
    optimiser step hence depends on their number alone, not on how many processes share them. Any
    position is found without those before it.

    Args:
        dataset (Sized): The data set.
        batch_size (int): Images of a micro-batch, B.
        seed (int): The training's seed.
        shuffle (bool): Whether each pass has a new random order. Defaults to True.
    """

    def __init__(self, dataset: Sized, batch_size: int, seed: int, shuffle: bool = True) -> None:
        self.size = len(dataset)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank, self.world_size = get_dist_info()
        self.start = 0
        if not self.size:
            raise InputError("the training set is empty")

    def start_at(self, num_done: int) -> None:
        """Begin after ``num_done`` micro-batches of this process."""
        self.start = num_done

    def __iter__(self) -> Iterator[SampleIndex]:
        epoch, order = -1, []
        number = self.start
        while True:
            first = (number * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._order(epoch)
                yield SampleIndex(order[position % self.size], position)
            number += 1

    def __len__(self) -> int:
        return self.size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        words = derive(self.seed, Stream.ORDER, epoch)
        generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
        return torch.randperm(self.size, generator=generator).tolist()


class PositionedDataset(DatasetWrapper):
    """A data set whose augmentation draws from the sample's position, and which says what failed.

    Args:
        dataset (Dataset): The data set; its other attributes are found here too.
        seed (int): The training's seed.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, index: SampleIndex) -> Any:
        with generators_kept():
            seed_generators(self.seed, Stream.SAMPLE, index.position)
            try:
                return self.dataset[int(index)]
            except Exception as error:
                sample = describe_sample(self.dataset, int(index))
                raise InputError(
                    f"the training sample {sample} cannot be read: {type(error).__name__}: {error} "
                    f"({_place(error)})"
                ) from error

    def __getitems__(self, indices: list[SampleIndex]) -> list[Any]:
        return [self[index] for index in indices]


def _place(error: Exception) -> str:
    """Where an error arose, for those whose own transform is to blame."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"
