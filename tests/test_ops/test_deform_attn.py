"""Multi-scale deformable attention against mmcv's own, and against finite differences."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
)
from torch import Tensor

from mmbeit3.ops import deform_attn, multi_scale_deformable_attn
from mmbeit3.ops.mmcv_ext import route_operators, source
from mmbeit3.utils import InputError

MMCV = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
# Whatever was put before it by then.
multi_scale_deformable_attn_pytorch = inspect.unwrap(MMCV.multi_scale_deformable_attn_pytorch)

SHAPES = torch.tensor([[7, 5], [4, 3], [1, 2]])
PIXEL = torch.tensor([[1, 1]])


def inputs(
    dtype: torch.dtype = torch.float32,
    batch: int = 2,
    heads: int = 3,
    dim: int = 4,
    queries: int = 6,
    shapes: Tensor = SHAPES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations (some outside of the maps) and weights, as leaves that want gradients."""
    generator = torch.Generator().manual_seed(0)
    keys = int(shapes.prod(dim=1).sum())
    samples = (batch, queries, heads, len(shapes), 2)
    value = torch.randn(batch, keys, heads, dim, generator=generator)
    locations = torch.rand(*samples, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(samples, generator=generator)
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights))


def run(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...], shapes: Tensor = SHAPES
) -> tuple[Tensor, ...]:
    """Output and gradients of a weighted sum of it."""
    value, locations, weights = tensors
    output = function(value, shapes, locations, weights)
    probe = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), *torch.autograd.grad(output, tensors, probe)


@pytest.fixture(params=["cpu", "accelerator"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The computation of each kind of device, on the CPU."""
    if request.param == "accelerator":
        monkeypatch.setattr(deform_attn, "_attend_by_rows", deform_attn._attend_by_grids)


@pytest.mark.parametrize("shapes", [SHAPES, PIXEL, SHAPES[[2, 0]]], ids=["3", "pixel", "2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_mmcv(way: None, shapes: Tensor, dtype: torch.dtype, tolerance: float) -> None:
    ours = run(multi_scale_deformable_attn, inputs(dtype, shapes=shapes), shapes)
    theirs = run(multi_scale_deformable_attn_pytorch, inputs(dtype, shapes=shapes), shapes)
    assert ours[0].shape == (2, 6, 12)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_equals_mmcv_with_many_samples() -> None:
    """As many as torch sorts and adds up in other ways than few, and with more threads."""
    tensors = inputs(torch.float64, queries=2000)
    ours = run(multi_scale_deformable_attn, tensors)
    theirs = run(multi_scale_deformable_attn_pytorch, tensors)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_equals_mmcv_around_the_edges(way: None) -> None:
    """Quarters of pixels, also outside and far away, on a map whose size rounds nothing."""
    steps = [*(step / 4 for step in range(-16, 33)), -1e3, 1e3, -1e9, 1e9, -1e30, 1e30]
    pixels = torch.tensor(steps, dtype=torch.float64)
    places = (torch.cartesian_prod(pixels, pixels) + 0.5) / 4
    value = inputs(torch.float64, batch=1, heads=1, shapes=torch.tensor([[4, 4]]))[0]
    locations = places.view(1, -1, 1, 1, 1, 2).requires_grad_()
    weights = torch.ones(locations.shape[:-1], dtype=torch.float64, requires_grad=True)
    shapes = torch.tensor([[4, 4]])
    ours = run(multi_scale_deformable_attn, (value, locations, weights), shapes)
    theirs = run(multi_scale_deformable_attn_pytorch, (value, locations, weights), shapes)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_one_sample_by_hand() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)  # one map of 2 x 3
    # Center of pixel (x 1, y 0); half-way to the right of it; on the corner: a quarter of pixel 0.
    places = torch.tensor([[0.5, 0.25], [2 / 3, 0.25], [0, 0.0]]).view(1, 3, 1, 1, 1, 2)
    output = multi_scale_deformable_attn(value + 1, [(2, 3)], places, torch.ones(1, 3, 1, 1, 1))
    torch.testing.assert_close(output.flatten(), torch.tensor([2, 2.5, 0.25]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_place_that_is_no_number_spoils_its_own_query_only(bad: float) -> None:
    good, spoilt = inputs(), inputs()
    with torch.no_grad():
        spoilt[1][0, 2, 1, 0, 0, 0] = bad
    want, found = run(multi_scale_deformable_attn, good), run(multi_scale_deformable_attn, spoilt)
    # Of query 2 it is head 1, in channels 4 to 7 of its output.
    assert found[0][0, 2, 4:8].isnan().all()
    found[0][0, 2, 4:8] = want[0][0, 2, 4:8]
    torch.testing.assert_close(found[0], want[0])
    for ours, theirs in zip(found[2:], want[2:], strict=True):
        ours[0, 2, 1] = theirs[0, 2, 1]
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_layout_in_memory_does_not_matter(axis: int) -> None:
    def reordered(tensor: Tensor) -> Tensor:
        """The same numbers, one axis being the slowest in memory."""
        turned = tensor.detach().movedim(axis, 0).contiguous().movedim(0, axis)
        assert not turned.is_contiguous()
        return turned.requires_grad_()

    def probed(*args: Tensor) -> Tensor:
        """An output whose gradient is not contiguous either."""
        return multi_scale_deformable_attn(*args).transpose(1, 2).contiguous().transpose(1, 2)

    given = inputs()
    torch.testing.assert_close(run(probed, tuple(map(reordered, given))), run(probed, given))


@pytest.mark.parametrize("wanted", [(), (0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_some_inputs_only(wanted: tuple[int, ...]) -> None:
    want = run(multi_scale_deformable_attn, inputs())
    tensors = [tensor.detach().requires_grad_(i in wanted) for i, tensor in enumerate(inputs())]
    output = multi_scale_deformable_attn(tensors[0], SHAPES, *tensors[1:])
    assert output.requires_grad == bool(wanted)
    if wanted:
        output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
    torch.testing.assert_close(output, want[0])
    for i, tensor in enumerate(tensors):
        torch.testing.assert_close(tensor.grad, want[1 + i] if i in wanted else None)


def test_no_queries_and_no_images() -> None:
    for size in (dict(queries=0), dict(batch=0)):
        tensors = inputs(**size)
        output, *grads = run(multi_scale_deformable_attn, tensors)
        assert output.shape == (*tensors[1].shape[:2], 12)
        assert [grad.shape for grad in grads] == [tensor.shape for tensor in tensors]
        assert not grads[0].any()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("power", [1, 2])
def test_second_derivatives_are_refused(which: int, power: int) -> None:
    """Also that of a sum, whose gradient does not depend on the output."""
    tensors = inputs()
    output = multi_scale_deformable_attn(tensors[0], SHAPES, *tensors[1:])
    (grad,) = torch.autograd.grad((output**power).sum(), tensors[which], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative on the CPU"):
        grad.square().sum().backward()


def test_autocast_changes_nothing() -> None:
    want = run(multi_scale_deformable_attn, inputs())
    with torch.autocast("cpu", torch.bfloat16):
        found = run(multi_scale_deformable_attn, inputs())
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_compiles_without_a_break() -> None:
    compiled = torch.compile(multi_scale_deformable_attn, backend="aot_eager", fullgraph=True)
    shapes = SHAPES.tolist()
    found = run(lambda value, _, *rest: compiled(value, shapes, *rest), inputs())
    torch.testing.assert_close(found, run(multi_scale_deformable_attn, inputs()))


def test_warns_of_nothing() -> None:
    """Sparse matrices do, once per process unless asked to do it always."""
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(multi_scale_deformable_attn, inputs())
    finally:
        torch.set_warn_always(False)


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


def test_mmcvs_layer_runs_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(16, num_heads=2, num_levels=3, num_points=2).eval()
    layer.init_weights()
    value = torch.randn(int(SHAPES.prod(1).sum()), 2, 16)
    starts = torch.cat((SHAPES.new_zeros(1), SHAPES.prod(1).cumsum(0)[:-1]))
    arguments = dict(
        query=torch.randn(5, 2, 16),
        value=value,
        reference_points=torch.rand(2, 5, 3, 2),
        spatial_shapes=SHAPES,
        level_start_index=starts,
    )
    theirs = multi_scale_deformable_attn_pytorch
    monkeypatch.setattr(MMCV, "multi_scale_deformable_attn_pytorch", theirs)
    expected = layer(**arguments)
    calls = []
    monkeypatch.setattr(
        deform_attn,
        "_attend_by_rows",
        lambda *a, run=deform_attn._attend_by_rows: (calls.append(1), run(*a))[1],
    )
    route_operators()
    route_operators()  # again: it must not come to stand before itself
    assert inspect.unwrap(MMCV.multi_scale_deformable_attn_pytorch) is theirs
    torch.testing.assert_close(layer(**arguments), expected)
    assert calls == [1]
