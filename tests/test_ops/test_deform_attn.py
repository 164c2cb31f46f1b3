"""Multi-scale deformable attention against mmcv's own, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor

from mmbeit3.ops import multi_scale_deformable_attn
from mmbeit3.ops.mmcv_ext import source
from mmbeit3.utils import InputError

SHAPES = torch.tensor([[7, 5], [4, 3], [1, 2]])


def inputs(
    dtype: torch.dtype = torch.float32, batch: int = 2, heads: int = 3, dim: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations (some outside of the maps) and weights, as leaves that want gradients."""
    generator = torch.Generator().manual_seed(0)
    keys = int(SHAPES.prod(dim=1).sum())
    value = torch.randn(batch, keys, heads, dim, generator=generator)
    locations = torch.rand(batch, 6, heads, 3, 2, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(batch, 6, heads, 3, 2, generator=generator)
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights))


def run(function, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Output and gradients of a weighted sum of it."""
    value, locations, weights = tensors
    output = function(value, SHAPES, locations, weights)
    probe = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), *torch.autograd.grad(output, tensors, probe)


def test_equals_mmcv() -> None:
    ours = run(multi_scale_deformable_attn, inputs())
    theirs = run(multi_scale_deformable_attn_pytorch, inputs())
    assert ours[0].shape == (2, 6, 12)
    torch.testing.assert_close(ours, theirs)


def test_one_sample_by_hand() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)  # one map of 2 x 3
    # Centre of pixel (x 1, y 0); half-way to the right of it; on the corner: a quarter of pixel 0.
    places = torch.tensor([[0.5, 0.25], [2 / 3, 0.25], [0, 0.0]]).view(1, 3, 1, 1, 1, 2)
    output = multi_scale_deformable_attn(value + 1, [(2, 3)], places, torch.ones(1, 3, 1, 1, 1))
    torch.testing.assert_close(output.flatten(), torch.tensor([2, 2.5, 0.25]))


def test_gradients_are_right() -> None:
    tensors = inputs(torch.float64, batch=1, heads=2, dim=2)
    assert torch.autograd.gradcheck(
        lambda *given: multi_scale_deformable_attn(given[0], SHAPES, *given[1:]), tensors
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    low = inputs(dtype)
    exact = run(
        multi_scale_deformable_attn, tuple(t.detach().float().requires_grad_() for t in low)
    )
    found = run(multi_scale_deformable_attn, low)
    assert all(tensor.dtype == dtype for tensor in found)
    for ours, full in zip(found, exact, strict=True):
        # The probe of the backward is rounded as well.
        error = (ours.float() - full).norm() / full.norm()
        assert error < 2 * torch.finfo(dtype).eps


def test_locations_keep_their_precision() -> None:
    """Under AMP the value comes in half precision, the locations in float32."""
    value = torch.arange(1024.0).view(1, 1024, 1, 1)
    place = torch.tensor([1000.6 / 1024, 0.5]).view(1, 1, 1, 1, 1, 2)
    output = multi_scale_deformable_attn(
        value.bfloat16(), [(1, 1024)], place, torch.ones(1, 1, 1, 1, 1)
    )
    assert abs(output.item() - 1000) <= 4  # half a step of bfloat16 there; 1000.6 would give 1000


@pytest.mark.skipif(source().startswith("compiled"), reason="mmcv has compiled operators here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mmcv_function_runs_on_ours(dtype: torch.dtype) -> None:
    """The autograd function that mmcv uses on a GPU, over ms_deform_attn_forward and _backward."""
    starts = torch.tensor([0, 35, 47])
    theirs = run(
        lambda value, shapes, locations, weights: MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, locations, weights, 64
        ),
        inputs(dtype),
    )
    torch.testing.assert_close(theirs, run(multi_scale_deformable_attn, inputs(dtype)))


def test_bad_shapes() -> None:
    value, locations, weights = inputs()
    with pytest.raises(InputError, match=r"\(2, 49, 3, 4\); expected \(B, 47, heads, dim\)"):
        multi_scale_deformable_attn(value, SHAPES[:2], locations, weights)
    with pytest.raises(InputError, match=r"expected \(2, Q, 3, 3, points, 2\)"):
        multi_scale_deformable_attn(value, SHAPES, locations[:, :, :, :2], weights)
