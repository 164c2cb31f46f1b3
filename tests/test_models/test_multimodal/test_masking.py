"""Masks: exact counts, shapes of blocks, rates, and what is never masked."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import torch

from mmbeit3.models.multimodal.masking import count_masked, mask_blocks, mask_images, mask_texts

GRIDS = [(14, 14, 78), (14, 14, 75), (16, 16, 102), (8, 8, 26), (12, 20, 96), (24, 24, 230)]
ODD_GRIDS = [(1, 9, 4), (3, 2, 3), (4, 4, 16), (5, 5, 0), (64, 48, 1229)]
MASK_ID = 90


@pytest.mark.parametrize("grid", GRIDS + ODD_GRIDS, ids=str)
def test_the_count_is_exact_on_any_grid(grid: tuple[int, int, int]) -> None:
    height, width, count = grid
    masks = [mask_blocks(height, width, count, seed) for seed in range(200)]
    assert {mask.shape for mask in masks} == {(height, width)}
    assert {int(mask.sum()) for mask in masks} == {count}


def test_the_papers_rate_gives_the_known_counts() -> None:
    known = {(14, 14): 78, (16, 16): 102}
    for (height, width), count in known.items():
        masks = mask_images(5, height, width, 0.4)
        assert masks.shape == (5, height * width) and masks.dtype == torch.bool
        assert masks.sum(1).tolist() == [count] * 5
    assert mask_images(2, 1, 2, 0.1).sum(1).tolist() == [1, 1]  # one at least
    assert [count_masked(10, rate) for rate in (0.04, 0.05, 0.25, 0.35)] == [0, 1, 3, 4]


def block_share(mask: np.ndarray) -> float:
    """Share of the masked patches of which a 3 x 3 neighborhood is masked whole."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    whole = np.all(
        [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0
    )
    return whole.sum() / mask.sum()


def test_masks_are_blocks_and_lie_everywhere() -> None:
    masks = [mask_blocks(14, 14, 78, seed) for seed in range(400)]
    of_blocks = np.mean([block_share(mask) for mask in masks])
    scattered = np.random.default_rng(0).permuted(np.stack(masks).reshape(400, -1), axis=1)
    of_points = np.mean([block_share(mask.reshape(14, 14)) for mask in scattered])
    assert of_blocks > 0.2 > 0.05 > of_points
    where = np.mean(masks, axis=0)
    assert where.min() > 0.02 and where.max() < 0.75  # less at the corners, as BEiT's
    assert len({mask.tobytes() for mask in masks}) > 390


def test_blocks_have_the_asked_sizes_and_aspects() -> None:
    shapes = collections.Counter()
    for seed in range(2000):
        mask = mask_blocks(40, 40, 48, seed)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        size = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
        if size[0] * size[1] == mask.sum():  # one block made up the whole count
            shapes[size] += 1
    assert {size for size, _ in shapes.most_common(4)} == {(4, 12), (6, 8), (8, 6), (12, 4)}


def texts(count: int = 400, longest: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids 4 to 89 between begin and end, some unknown, padded at random lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, longest + 1, (count,), generator=generator)
    ids = torch.randint(4, MASK_ID, (count, longest), generator=generator)
    ids[torch.rand(count, longest, generator=generator) < 0.02] = 3
    places = torch.arange(longest)
    ids[:, 0] = 0
    ids[places == lengths[:, None] - 1] = 2
    padding = places >= lengths[:, None]
    return ids.masked_fill(padding, 1), padding


@pytest.mark.parametrize("rate", [0.15, 0.5, 0.7])
def test_words_are_masked_at_the_rate_and_no_special_token(rate: float) -> None:
    ids, padding = texts()
    before = ids.clone()
    masked, chosen = mask_texts(ids, rate, MASK_ID)
    assert torch.equal(ids, before)
    assert chosen.dtype == torch.bool and masked.shape == ids.shape
    assert not chosen[ids < 4].any() and not chosen[padding].any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    words = (ids >= 4).sum(1)
    want = [max(count_masked(int(n), rate), min(int(n), 1)) for n in words]
    assert chosen.sum(1).tolist() == want
    kinds = masked[chosen], ids[chosen]
    shares = [(kinds[0] == MASK_ID).float().mean(), (kinds[0] == kinds[1]).float().mean()]
    assert shares[0] == pytest.approx(0.8, abs=0.05)
    assert shares[1] == pytest.approx(0.1, abs=0.04)
    others = kinds[0][(kinds[0] != MASK_ID) & (kinds[0] != kinds[1])]
    assert len(others) > 10 and others.min() >= 4 and others.max() < MASK_ID


def test_a_text_of_no_words_has_no_mask() -> None:
    ids = torch.tensor([[0, 3, 2], [0, 5, 2]])
    masked, chosen = mask_texts(ids, 0.15, MASK_ID, seeds=[1, 2])
    assert chosen.tolist() == [[False] * 3, [False, True, False]]
    assert torch.equal(masked[0], ids[0])


def test_a_mask_follows_from_its_samples_number_alone() -> None:
    ids, _ = texts(6)
    seeds = [5, 6, 7, 8, 9, 10]
    images = mask_images(6, 14, 14, 0.4, seeds)
    words = mask_texts(ids, 0.5, MASK_ID, seeds)
    for part in (slice(0, 2), slice(3, 6)):
        assert torch.equal(
            mask_images(part.stop - part.start, 14, 14, 0.4, seeds[part]), images[part]
        )
        again = mask_texts(ids[part], 0.5, MASK_ID, seeds[part])
        assert torch.equal(again[0], words[0][part]) and torch.equal(again[1], words[1][part])
    torch.manual_seed(3)
    drawn = mask_images(6, 14, 14, 0.4)
    assert not torch.equal(drawn, images)
    torch.manual_seed(3)
    assert torch.equal(mask_images(6, 14, 14, 0.4), drawn)
