"""Images alone, texts alone and pairs, side by side."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from torch.utils.data import Dataset

from mmbeit3.registry import DATASETS, FUNCTIONS
from mmbeit3.utils import InputError

PARTS = ("images", "texts", "pairs")


@DATASETS.register_module()
class PretrainingDataset(Dataset):
    """An item has a sample of each part: of images alone, of texts alone, of pairs.

    So one loader makes a step of all parts, and one position in its order says what is in it. Each
    part has an order of its own that follows from seed and position: all of its samples in a new
    random order, again and again, however long the others are. Hence training resumes exactly, on
    any number of processes, and these share the samples of each part without overlap.

    Each sample gets the metainfo ``mask_seed``, which its masks follow from, see
    :mod:`mmbeit3.models.multimodal.masking`. The length is that of the longest part that has an
    end; it is the mark of a pass and of nothing else. One that says that it is ``endless`` is gone
    through in its own order.

    With ``test_mode`` an item is one sample of one part, and each sample of each part is there
    once; its mask follows from its number, and of several texts of an image it has the first.
    Batches then need ``collate_fn=dict(type="mmbeit3.collate_parts")``.

    Args:
        datasets (dict): Configs of data sets by what they are of: ``images``, ``texts``, ``pairs``.
            Each ends its pipeline by ``mmbeit3.PackImageText``.
        samples (dict, optional): How many samples of a part an item has, such as
            ``dict(images=2)``; not for tests. Defaults to None, one of each.
        test_mode (bool): Whether it is for validation or test. Defaults to False.

    Raises:
        InputError: There is another part, none, or one is empty.
    """

    def __init__(
        self,
        datasets: Mapping[str, Any],
        samples: Mapping[str, int] | None = None,
        test_mode: bool = False,
    ) -> None:
        if not datasets or set(datasets) - set(PARTS):
            raise InputError(
                f"datasets has {', '.join(datasets) or 'nothing'}; expected some of "
                f"{', '.join(PARTS)}"
            )
        self.parts = [part for part in PARTS if part in datasets]
        samples = dict(samples or {})
        if set(samples) - set(self.parts) or any(count < 1 for count in samples.values()):
            raise InputError(
                f"samples is {samples}; expected numbers from 1 on, of {', '.join(self.parts)}"
            )
        self.samples = {part: samples.get(part, 1) for part in self.parts}
        self.datasets = [
            DATASETS.build(datasets[part]) if isinstance(datasets[part], dict) else datasets[part]
            for part in self.parts
        ]
        for part, dataset in zip(self.parts, self.datasets, strict=True):
            if not len(dataset):
                raise InputError(f"datasets.{part} has no samples")
            if test_mode and is_endless(dataset):
                raise InputError(
                    f"datasets.{part} has no end; expected a number of samples in test_mode: set "
                    "its num_scenes"
                )
        self.test_mode = test_mode
        self.metainfo: dict[str, Any] = {}
        self._ends = list(accumulate(map(len, self.datasets)))  # of the parts, in test mode
        self._orders: dict[str, tuple[tuple[int, int], np.ndarray]] = {}

    def __len__(self) -> int:
        if self.test_mode:
            return self._ends[-1]
        counts = zip(self.datasets, self.samples.values(), strict=True)
        lengths = [-(-len(d) // n) for d, n in counts if not is_endless(d)]
        return max(lengths, default=len(self.datasets[0]))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Give the item at a position of the order of seed 0, in test mode that of the data."""
        return self._one(index) if self.test_mode else self.at_position(index, 0)

    def at_position(self, position: int, seed: int) -> dict[str, Any]:
        """Give an item of a training's order.

        Args:
            position (int): Its place, from 0 on.
            seed (int): The training's seed.

        Returns:
            dict: For each part a sample, or a list of its ``samples``, as the pipeline packs them.
        """
        item: dict[str, Any] = {}
        for part, dataset in zip(self.parts, self.datasets, strict=True):
            count = self.samples[part]
            found = []
            for place in range(position * count, (position + 1) * count):
                mask_seed = int(np.random.randint(2**63 - 1, dtype=np.int64))
                index = place
                if not is_endless(dataset):
                    index = self._index(part, len(dataset), place, seed)
                sample = dataset[index]
                sample["data_samples"].set_metainfo(dict(mask_seed=mask_seed))
                found.append(sample)
            item[part] = found[0] if count == 1 else found
        return item

    def _one(self, index: int) -> dict[str, Any]:
        """The sample with a number, of the part whose it is."""
        number = bisect_right(self._ends, index)
        place = index - (self._ends[number] - len(self.datasets[number]))
        sample = self.datasets[number][place]
        data_sample = sample["data_samples"]
        data_sample.set_metainfo(dict(mask_seed=place, sample_idx=index))
        if "texts" in data_sample:
            data_sample.texts = data_sample.texts[:1]
        return {self.parts[number]: sample}

    def _index(self, part: str, size: int, place: int, seed: int) -> int:
        """Which sample of a part is at a place of its order."""
        key = (seed, place // size)
        if self._orders.get(part, (None,))[0] != key:
            words = np.random.SeedSequence((*key, PARTS.index(part)))
            self._orders[part] = key, np.random.default_rng(words).permutation(size)
        return int(self._orders[part][1][place % size])


@FUNCTIONS.register_module()
def collate_parts(batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make a batch of items that have different parts.

    Args:
        batch (Sequence[Mapping]): Items of a :class:`PretrainingDataset`.

    Returns:
        dict: For each part that some of them have, these samples as mmengine's ``pseudo_collate``
        joins them.
    """
    found = {part: [item[part] for item in batch if part in item] for part in PARTS}
    return {part: pseudo_collate(samples) for part, samples in found.items() if samples}


def is_endless(dataset: Any) -> bool:
    """Whether a data set has a sample for every number, so that no order of them can be drawn."""
    return bool(getattr(dataset, "endless", False))
