from __future__ import annotations

import pickle
import random
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mmbeit3.engine import data_order
from mmbeit3.engine.data_order import InfiniteSampler, PositionedDataset, SampleIndex
from mmbeit3.engine.randomness import Stream, seed_generators
from mmbeit3.utils import InputError


def stream(
    monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int, count: int, start: int = 0
) -> list[SampleIndex]:
    """The first samples of a process, of 10 in micro-batches of 2."""
    monkeypatch.setattr(data_order, "get_dist_info", lambda: (rank, world_size))
    sampler = InfiniteSampler(range(10), batch_size=2, seed=3)
    sampler.start_at(start)
    return [index for index, _ in zip(sampler, range(count), strict=False)]


def test_every_sample_comes_once_in_a_pass_in_orders_that_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    indices = stream(monkeypatch, 0, 1, 30)
    passes = [indices[first : first + 10] for first in (0, 10, 20)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [index.position for index in indices] == list(range(30))


@pytest.mark.parametrize("world_size", [2, 5])
def test_processes_divide_the_order_of_one(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    alone = stream(monkeypatch, 0, 1, 4 * 2 * world_size)
    shares = [stream(monkeypatch, rank, world_size, 8) for rank in range(world_size)]
    steps = [[share[2 * step : 2 * step + 2] for share in shares] for step in range(4)]
    assert [index for step in steps for batch in step for index in batch] == alone


def test_a_start_in_the_middle_needs_nothing_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stream(monkeypatch, 1, 3, 6, start=4) == stream(monkeypatch, 1, 3, 14)[8:]


def test_a_late_start_is_quick() -> None:
    sampler = InfiniteSampler(range(118_000), batch_size=64, seed=0)
    sampler.start_at(100_000)
    began = time.perf_counter()
    first = next(iter(sampler))
    assert time.perf_counter() - began < 1
    assert first.position == 6_400_000


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="training set is empty"):
        InfiniteSampler([], batch_size=1, seed=0)


def test_positions_travel_to_other_processes() -> None:
    index = pickle.loads(pickle.dumps(SampleIndex(3, 17, 5)))
    assert (index, index.position, index.seed) == (3, 17, 5)


class Noise(Dataset):
    """Draws from all generators; the sample 4 cannot be read."""

    metainfo = {"classes": ("a",)}

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> list[float]:
        if index == 4:
            raise OSError("no such file")
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    def get_data_info(self, index: int) -> dict[str, str]:
        return {"img_path": f"images/{index}.jpg"}


def test_a_sample_is_drawn_from_its_position_alone() -> None:
    data = PositionedDataset(Noise())
    one, again = data[SampleIndex(0, 7, 1)], data[SampleIndex(2, 7, 1)]
    other, reseeded = data[SampleIndex(0, 8, 1)], data[SampleIndex(0, 7, 2)]
    assert one == again
    assert not set(one) & set(other) and not set(one) & set(reseeded)
    assert data.metainfo == Noise.metainfo and len(data) == 5


def test_reading_leaves_the_generators_alone() -> None:
    data = PositionedDataset(Noise())
    for read in (lambda: None, lambda: data[SampleIndex(0, 0, 1)]):
        seed_generators(0, Stream.MODEL, 5)
        read()
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
        if read() is None:
            expected = drawn
    assert drawn == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_sample_that_fails_is_named(num_workers: int) -> None:
    data = PositionedDataset(Noise())
    loader = DataLoader(data, sampler=[SampleIndex(4, 0, 1)], num_workers=num_workers)
    with pytest.raises(InputError, match=r"sample 4 \(images/4.jpg\) cannot be read: OSError"):
        next(iter(loader))
