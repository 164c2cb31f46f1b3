"""Window attention, each window beside its own crop run alone.

ViTDet pads a grid that the windows do not divide with zero tokens that take part in attention
(detectron2/modeling/backbone/utils.py, ``window_partition``). This backbone cuts the windows off at
the edge instead: what these tests hold it to.

float64 throughout, so that equal means equal up to rounding.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmbeit3.models import BEiT3
from mmbeit3.models.layers import window_layout

PATCH, WINDOW = 8, 4
ARCH = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
CLOSE = dict(rtol=1e-10, atol=1e-10)


def backbone(grid: tuple[int, int], rel_pos: bool = False, **options) -> BEiT3:
    """Three window layers (unless told otherwise) whose position table has the size of ``grid``."""
    torch.manual_seed(0)
    sizes = dict(patch_size=PATCH, window_size=WINDOW, global_attn_indexes=(), rel_pos=rel_pos)
    model = BEiT3(ARCH, (grid[0] * PATCH, grid[1] * PATCH), **sizes | options)
    for param in model.parameters():
        torch.nn.init.normal_(param, mean=float(param.ndim == 1) / 2, std=0.2)
    return model.double().eval()


def part_of(model: BEiT3, rows: slice, cols: slice) -> BEiT3:
    """The same weights for the part of the grid at ``rows`` and ``cols``, positions included."""
    table = model.pos_embed.detach().unflatten(1, model.grid_size)[:, rows, cols]
    part = copy.deepcopy(model)
    part.grid_size = tuple(table.shape[1:3])
    part.pos_embed = torch.nn.Parameter(table.flatten(1, 2))
    return part


def pixels(x: Tensor, rows: slice, cols: slice) -> Tensor:
    """The pixels (B, 3, h, w) of the tokens at ``rows`` and ``cols``."""
    rows, cols = (slice(part.start * PATCH, part.stop * PATCH) for part in (rows, cols))
    return x[..., rows, cols]


def windows(grid: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns of each window, those at the edges cut off."""
    height, width = grid
    return [
        (slice(top, min(top + WINDOW, height)), slice(left, min(left + WINDOW, width)))
        for top in range(0, height, WINDOW)
        for left in range(0, width, WINDOW)
    ]


@torch.no_grad()
@pytest.mark.parametrize("rel_pos", [False, True], ids=["plain", "rel_pos"])
@pytest.mark.parametrize("grid", [(8, 12), (7, 9), (3, 9), (5, 4), (2, 3)])
def test_a_window_is_its_crop_run_alone(grid: tuple[int, int], rel_pos: bool) -> None:
    """Divided grids, and edge windows: attention over their own tokens and nothing else."""
    model = backbone(grid, rel_pos)
    x = torch.randn(2, 3, grid[0] * PATCH, grid[1] * PATCH, dtype=torch.float64)
    (whole,) = model(x)
    for rows, cols in windows(grid):
        (alone,) = part_of(model, rows, cols)(pixels(x, rows, cols))
        torch.testing.assert_close(whole[..., rows, cols], alone, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("rel_pos", [False, True], ids=["plain", "rel_pos"])
def test_whole_windows_do_not_feel_the_edge(rel_pos: bool) -> None:
    """Cut a larger grid to one that the windows do not divide: only cut windows change."""
    model = backbone((12, 12), rel_pos)
    rows, cols = slice(0, 10), slice(0, 7)
    x = torch.randn(1, 3, 12 * PATCH, 12 * PATCH, dtype=torch.float64)
    (large,), (cut,) = model(x), part_of(model, rows, cols)(pixels(x, rows, cols))
    torch.testing.assert_close(cut[..., :8, :4], large[..., :8, :4], **CLOSE)
    moved = (cut - large[..., rows, cols]).abs().amax((0, 1))
    assert moved[8:].min() > 1e-3 and moved[:, 4:].min() > 1e-3


@torch.no_grad()
def test_no_padding_takes_part_in_attention() -> None:
    """What ViTDet does to an edge window: zeros appended after norm1. Not what happens here."""
    model = backbone((4, 3))
    layer = model.layers[0]
    x = torch.randn(1, 12, 48, dtype=torch.float64)
    order = window_layout(4, 3, WINDOW)
    ours = order.restore(layer.attn(order.arrange(layer.norm1(x)), order.segments))
    torch.testing.assert_close(ours, layer.attn(layer.norm1(x), ((1, 12),)), **CLOSE)
    padded = F.pad(layer.norm1(x).unflatten(1, (4, 3)), (0, 0, 0, 1)).flatten(1, 2)
    vitdet = layer.attn(padded, ((1, 16),)).unflatten(1, (4, 4))[:, :, :3].flatten(1, 2)
    assert (ours - vitdet).abs().min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("extra", [1, 5, 7])
def test_a_partial_patch_row_moves_only_the_windows_that_hold_it(extra: int) -> None:
    """Rows and columns of pixels past the last whole patch, zero-padded to patches of their own."""
    model = backbone((7, 8))
    x = torch.randn(1, 3, 6 * PATCH + extra, 8 * PATCH, dtype=torch.float64)
    without = part_of(model, slice(0, 6), slice(0, 8))
    (more,), (less,) = model(x), without(x[..., : 6 * PATCH, :])
    assert more.shape[-2:] == (7, 8)
    torch.testing.assert_close(more[..., :4, :], less[..., :4, :], **CLOSE)
    assert (more[..., 4:6, :] - less[..., 4:, :]).abs().amax((0, 1)).min() > 1e-3

    (turned,) = part_of(model, slice(0, 6), slice(0, 7))(x[..., : 6 * PATCH, : 6 * PATCH + extra])
    (square,) = part_of(model, slice(0, 6), slice(0, 6))(x[..., : 6 * PATCH, : 6 * PATCH])
    torch.testing.assert_close(turned[..., :4], square[..., :4], **CLOSE)
    assert (turned[..., 4:6] - square[..., 4:]).abs().amax((0, 1)).min() > 1e-3


@torch.no_grad()
def test_zeros_fill_a_partial_patch() -> None:
    """The pixels of a partial patch weigh as they are, those that lack weigh nothing."""
    model = backbone((7, 5))
    x = torch.randn(1, 3, 6 * PATCH + 3, 4 * PATCH + 2, dtype=torch.float64)
    weight, bias = model.patch_embed.proj.weight, model.patch_embed.proj.bias
    corner = torch.einsum("bchw,ochw->bo", x[..., -3:, -2:], weight[..., :3, :2]) + bias
    torch.testing.assert_close(model.patch_embed(x)[..., -1, -1], corner, **CLOSE)


@torch.no_grad()
def test_one_global_layer_carries_a_partial_row_everywhere() -> None:
    model = backbone((7, 8), global_attn_indexes=(1,))
    x = torch.randn(1, 3, 6 * PATCH + 1, 8 * PATCH, dtype=torch.float64)
    (more,) = model(x)
    (less,) = part_of(model, slice(0, 6), slice(0, 8))(x[..., : 6 * PATCH, :])
    assert (more[..., :6, :] - less).abs().amax((0, 1)).min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("rel_pos", [False, True], ids=["plain", "rel_pos"])
def test_order_in_the_batch_and_sizes_seen_before_do_not_matter(rel_pos: bool) -> None:
    options = dict(rel_pos=rel_pos, global_attn_indexes=(1,))
    sizes = [(72, 56), (64, 64), (56, 72), (61, 35), (72, 56)]
    images = {size: torch.randn(4, 3, *size, dtype=torch.float64) for size in sizes}
    fresh = {size: backbone((8, 8), **options)(x)[0] for size, x in images.items()}
    used, order = backbone((8, 8), **options), torch.tensor([2, 0, 3, 1])
    for size in sizes:
        x = images[size]
        torch.testing.assert_close(used(x)[0], fresh[size], rtol=0, atol=0)
        torch.testing.assert_close(used(x[order])[0], fresh[size][order], **CLOSE)
        torch.testing.assert_close(used(x[1:2])[0], fresh[size][1:2], **CLOSE)


# Layouts are kept for the whole process, positions with the model: no caller may spoil the next.


def test_a_size_first_seen_in_inference_mode_can_be_trained_on() -> None:
    model, x = backbone((8, 8)), torch.randn(1, 3, 104, 88, dtype=torch.float64)
    with torch.inference_mode():
        model(x)
    model.train()(x)[0].sum().backward()
    assert model.pos_embed.grad.any()


@torch.no_grad()
def test_a_size_first_seen_on_the_meta_device_can_be_computed() -> None:
    with torch.device("meta"):
        backbone((8, 8))(torch.empty(1, 3, 120, 88, dtype=torch.float64))
    assert backbone((8, 8))(torch.randn(1, 3, 120, 88, dtype=torch.float64))[0].isfinite().all()


def test_a_model_built_in_inference_mode_runs() -> None:
    with torch.inference_mode():
        model, x = backbone((8, 8)), torch.randn(1, 3, 136, 72, dtype=torch.float64)
        torch.testing.assert_close(model(x)[0], model(x)[0], rtol=0, atol=0)
