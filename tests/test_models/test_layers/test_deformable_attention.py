"""The deformable attention module against mmcv's, and the places that it samples at."""

from __future__ import annotations

import warnings

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from torch import Tensor, nn

from mmbeit3.models.layers import DeformableAttention, Grid, reference_points
from mmbeit3.utils import InputError

QUERIES = [Grid(4, 3, 16)]
MAPS = [Grid(8, 6, 8), Grid(4, 3, 16), Grid(2, 2, 32)]
POINTS = reference_points(QUERIES, MAPS, torch.device("cpu"))


def drawn(ratio: float = 0.5, heads: int = 4, dims: int = 16) -> DeformableAttention:
    """A module with every weight drawn: places and weights then depend on the query."""
    torch.manual_seed(0)
    module = DeformableAttention(dims, heads, len(MAPS), num_points=3, value_ratio=ratio)
    for param in module.parameters():
        nn.init.normal_(param, std=0.5)
    return module


def tokens(dims: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    keys = sum(grid.height * grid.width for grid in MAPS)
    return (
        torch.randn(2, 12, dims, generator=generator),
        torch.randn(2, keys, dims, generator=generator),
    )


def mmcv_module(ours: DeformableAttention, ratio: float) -> nn.Module:
    heads, levels, points = ours.places
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a power of two would be faster in CUDA
        theirs = MultiScaleDeformableAttention(
            ours.output_proj.out_features,
            heads,
            levels,
            points,
            dropout=0.0,
            batch_first=True,
            value_proj_ratio=ratio,
        )
    theirs.load_state_dict(ours.state_dict())
    return theirs


@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0])
def test_equals_mmcv(ratio: float) -> None:
    ours = drawn(ratio)
    assert ours.value_proj.out_features == 16 * ratio
    query, value = tokens()
    shapes = torch.tensor([grid[:2] for grid in MAPS])
    want = mmcv_module(ours, ratio)(
        query,
        value=value,
        identity=torch.zeros_like(query),
        reference_points=POINTS[None],
        spatial_shapes=shapes,
        level_start_index=torch.tensor([0, 48, 60]),
    )
    torch.testing.assert_close(ours(query, value, POINTS, MAPS), want)


@pytest.mark.parametrize("heads", [4, 6])
def test_starts_as_mmcv_starts(heads: int) -> None:
    ours = DeformableAttention(48, heads, 3, value_ratio=0.5)
    theirs = mmcv_module(ours, 0.5)
    theirs.init_weights()
    for name in ("sampling_offsets", "attention_weights"):
        for kind in ("weight", "bias"):
            torch.testing.assert_close(
                getattr(getattr(ours, name), kind), getattr(getattr(theirs, name), kind)
            )
    for name in ("value_proj", "output_proj"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert not a.bias.any()
        assert a.weight.std().item() == pytest.approx(b.weight.std().item(), rel=0.1)


def test_places_of_cells_by_hand() -> None:
    # An image of 3 x 2 cells of 8 pixels, beside a map of 2 x 1 cells of 16 that reaches past it.
    points = reference_points([Grid(2, 3, 8)], [Grid(2, 3, 8), Grid(1, 2, 16)], torch.device("cpu"))
    assert points.shape == (6, 2, 2) and points.dtype == torch.float32
    torch.testing.assert_close(points[0], torch.tensor([[1 / 6, 1 / 4], [1 / 8, 1 / 4]]))
    torch.testing.assert_close(points[2], torch.tensor([[5 / 6, 1 / 4], [5 / 8, 1 / 4]]))
    torch.testing.assert_close(points[4], torch.tensor([[1 / 2, 3 / 4], [3 / 8, 3 / 4]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_locations_are_not_rounded_in_half_precision(dtype: torch.dtype) -> None:
    # 224 cells of 4 pixels: in bfloat16 the place of a cell would be off by up to half a cell.
    grid = Grid(1, 224, 4)
    module = DeformableAttention(8, 1, 1, num_points=1).to(dtype)
    for param in module.parameters():
        nn.init.zeros_(param)
    with torch.no_grad():
        module.value_proj.weight.copy_(torch.eye(8))
        module.output_proj.weight.copy_(torch.eye(8))
    value = torch.randn(1, 224, 8).to(dtype)
    points = reference_points([grid], [grid], value.device)
    found = module(value, value, points, [grid])
    assert found.dtype == dtype
    torch.testing.assert_close(found, value, rtol=0, atol=2e-2)


def test_gradients_are_right() -> None:
    module = drawn(dims=4, heads=2).double()
    query, value = (x.double().requires_grad_() for x in tokens(4))
    assert torch.autograd.gradcheck(
        lambda q, v: module(q, v, POINTS, MAPS), (query, value), fast_mode=True
    )


@pytest.mark.parametrize(("heads", "ratio"), [(5, 1.0), (16, 0.5), (4, 0.01)])
def test_heads_that_do_not_divide_are_refused(heads: int, ratio: float) -> None:
    with pytest.raises(InputError, match=f"{heads} heads .* cannot share 24 channels .* {ratio}"):
        DeformableAttention(24, heads, 1, value_ratio=ratio)
