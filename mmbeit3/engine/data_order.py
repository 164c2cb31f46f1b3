"""The order of the training data, and each sample's random numbers, as functions of a position."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS
from torch.utils.data import Sampler

from mmbeit3.engine.data_workers import DatasetWrapper, describe_sample
from mmbeit3.engine.randomness import Stream, derive, generators_kept, seed_generators
from mmbeit3.registry import DATA_SAMPLERS
from mmbeit3.utils import InputError


class SampleIndex(int):
    """Index into a data set that knows its position in the order of the whole training."""

    position: int
    seed: int

    def __new__(cls, index: int, position: int, seed: int) -> SampleIndex:
        """Make the index ``index`` of the sample at ``position``, for the training's ``seed``."""
        self = super().__new__(cls, index)
        self.position, self.seed = position, seed
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.position, self.seed)


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler):
    """Endless order of samples, divided into micro-batches over processes and accumulation steps.

    All samples in a new order, again and again. Micro-batch m has the positions m * B .. m * B +
    B - 1; process r of W runs the micro-batches r, W + r, 2 W + r, ... Which images make one
    optimizer step hence depends on their number alone, not on how many processes share them. Any
    position is found without those before it.

    In a config, ``sampler=dict(type="mmbeit3.InfiniteSampler")``. ``mmbeit3.Runner`` gives the
    batch size and lets the data set draw its augmentation from the position.

    Args:
        dataset (Sized): The data set. One that has an order of its own, see
            :class:`PositionedDataset`, or is ``endless`` gets its positions as they are.
        batch_size (int): Images of a micro-batch, B. Defaults to 1.
        seed (int): The training's seed. Defaults to 0.
        shuffle (bool): Whether each pass has a new random order. Defaults to True.

    Raises:
        InputError: The data set is empty.
    """

    def __init__(
        self, dataset: Sized, batch_size: int = 1, seed: int = 0, shuffle: bool = True
    ) -> None:
        self.size = len(dataset)
        self.batch_size = batch_size
        self.seed = seed
        has_order = hasattr(dataset, "at_position") or getattr(dataset, "endless", False)
        self.shuffle = shuffle and not has_order
        self.rank, self.world_size = get_dist_info()
        self.start = 0
        if not self.size:
            raise InputError("the training set is empty")

    def start_at(self, num_done: int) -> None:
        """Begin after ``num_done`` micro-batches of this process."""
        self.start = num_done

    def __iter__(self) -> Iterator[SampleIndex]:
        epoch: int = -1
        order: Sequence[int] = ()
        number = self.start
        while True:
            first = (number * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._order(epoch)
                yield SampleIndex(order[position % self.size], position, self.seed)
            number += 1

    def __len__(self) -> int:
        return self.size

    def _order(self, epoch: int) -> Sequence[int]:
        if not self.shuffle:
            return range(self.size)
        words = derive(self.seed, Stream.ORDER, epoch)
        generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
        return torch.randperm(self.size, generator=generator).tolist()


class PositionedDataset(DatasetWrapper):
    """A data set whose augmentation draws from the sample's position, and which says what failed.

    One with a method ``at_position(position, seed)`` has an order of its own, and the sampler's
    index is not used.

    Args:
        dataset (Dataset): The data set; its other attributes are found here too.
    """

    def __getitem__(self, index: SampleIndex) -> Any:
        with generators_kept():
            seed_generators(index.seed, Stream.SAMPLE, index.position)
            try:
                if hasattr(self.dataset, "at_position"):
                    return self.dataset.at_position(index.position, index.seed)
                return self.dataset[int(index)]
            except Exception as error:
                sample = describe_sample(self.dataset, int(index))
                raise InputError(
                    f"the training sample {sample} cannot be read: {type(error).__name__}: {error} "
                    f"({_place(error)})"
                ) from error

    def __getitems__(self, indices: list[SampleIndex]) -> list[Any]:
        return [self[index] for index in indices]


def with_positions(dataloader: dict[str, Any], seed: int | None) -> dict[str, Any]:
    """Build the data set of a loader whose sampler is :class:`InfiniteSampler`, to know positions.

    Args:
        dataloader (dict): The config of a loader.
        seed (int): The training's seed.

    Returns:
        dict: The config to build; as it was where the sampler is another.

    Raises:
        InputError: The loader has a batch sampler, too, which would order the samples again.
    """
    sampler = dataloader.get("sampler")
    kind = sampler.get("type") if isinstance(sampler, dict) else None
    if isinstance(kind, str):
        with MMENGINE_DATA_SAMPLERS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    if kind is not InfiniteSampler:
        return dataloader
    if dataloader.get("batch_sampler"):
        raise InputError(
            "mmbeit3.InfiniteSampler makes the batches itself: leave batch_sampler out, or name "
            "mmengine's InfiniteSampler, with which a resumed training sees other samples"
        )
    dataset = dataloader["dataset"]
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    sampler = {**(sampler or {}), "batch_size": dataloader["batch_size"], "seed": seed}
    return {**dataloader, "dataset": PositionedDataset(dataset), "sampler": sampler}


def _place(error: Exception) -> str:
    """Where an error arose, for those whose own transform is to blame."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"
