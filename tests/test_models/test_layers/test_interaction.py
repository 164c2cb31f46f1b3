"""Injector and extractor, and the order of the pyramid's cells."""

from __future__ import annotations

import torch
from torch import nn

from mmbeit3.models.layers import (
    Extractor,
    Grid,
    Injector,
    as_maps,
    as_tokens,
    reference_points,
)
from mmbeit3.models.layers.interaction import ConvFFN

TOWER = Grid(3, 2, 16)
MAPS = [Grid(5, 4, 8), Grid(3, 2, 16), Grid(2, 1, 32)]
CELLS = 20 + 6 + 2
CPU = torch.device("cpu")


def test_maps_to_tokens_and_back() -> None:
    maps = [torch.randn(2, 7, grid.height, grid.width) for grid in MAPS]
    tokens = as_tokens(maps)
    assert tokens.shape == (2, CELLS, 7)
    assert torch.equal(tokens[:, 20 + 3], maps[1][:, :, 1, 1])
    for x, want in zip(as_maps(tokens, MAPS), maps, strict=True):
        assert torch.equal(x, want)


def test_an_injector_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    injector = Injector(16, 4, 3, 4, 0.5)
    points = reference_points([TOWER], MAPS, CPU)
    tokens, pyramid = torch.randn(2, 6, 16), torch.randn(2, CELLS, 16)
    assert torch.equal(injector(tokens, pyramid, points, MAPS), tokens)
    nn.init.ones_(injector.gamma)
    assert not torch.allclose(injector(tokens, pyramid, points, MAPS), tokens, atol=0.1)


def test_an_extractor_reads_tower_and_pyramid() -> None:
    torch.manual_seed(0)
    extractor = Extractor(16, 4, 4, 0.5, 0.25, 0.0)
    points = reference_points(MAPS, [TOWER], CPU)
    tokens, pyramid = torch.randn(2, 6, 16), torch.randn(2, CELLS, 16)
    before = extractor(pyramid, tokens, points, TOWER, MAPS)
    assert before.shape == pyramid.shape
    after = extractor(pyramid, tokens.flip(0), points, TOWER, MAPS)
    assert (before - after).abs().amax(-1).min() > 1e-3  # every cell hears of the tower


def test_drop_path_drops_the_ffn_of_a_sample_and_keeps_the_attention() -> None:
    torch.manual_seed(0)
    extractor = Extractor(16, 4, 4, 0.5, 0.25, 0.5)
    points = reference_points(MAPS, [TOWER], CPU)
    tokens, pyramid = torch.randn(1, 6, 16).expand(64, -1, -1), torch.randn(1, CELLS, 16)
    out = extractor(pyramid.expand(64, -1, -1), tokens, points, TOWER, MAPS)
    attended = pyramid + extractor.attn(
        extractor.query_norm(pyramid), extractor.value_norm(tokens[:1]), points, [TOWER]
    )
    dropped = ((out - attended).abs().amax((1, 2)) < 1e-5).float().mean()
    assert 0.25 < dropped < 0.75


def test_the_ffn_convolves_each_map_alone() -> None:
    torch.manual_seed(0)
    ffn = ConvFFN(8, 4)
    x = torch.randn(1, CELLS, 8)
    changed = x.clone()
    changed[:, 0] += 1  # the corner of the first map
    moved = (ffn(x, MAPS) - ffn(changed, MAPS)).abs().amax((0, 2)) > 1e-7
    assert moved.nonzero().flatten().tolist() == [0, 1, 4, 5]
