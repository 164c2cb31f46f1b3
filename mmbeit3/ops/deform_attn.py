"""Multi-scale deformable attention in plain torch, for every device and floating-point type."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from mmbeit3.utils import InputError


def multi_scale_deformable_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum up bilinear samples of several feature maps, weighted, for each query and head.

    The core of equation 3 of `Deformable DETR <https://arxiv.org/abs/2010.04159>`_. Outside a map
    its value is zero. Half precision is sampled and summed in float32, and the locations keep
    their own type: half would place them whole pixels off on large maps. Second
    derivatives are not supported; they raise an error.

    Args:
        value (Tensor): (B, sum of H * W over the levels, heads, dim), the maps level after level,
            each row by row.
        spatial_shapes (Tensor | Sequence[tuple[int, int]]): (levels, 2), (H, W) of each map.
        sampling_locations (Tensor): (B, Q, heads, levels, points, 2) as (x, y), where (0, 0) is
            the outer corner of a map's first pixel and (1, 1) that of its last.
        attention_weights (Tensor): (B, Q, heads, levels, points).

    Returns:
        Tensor: (B, Q, heads * dim) in the type of ``value``.

    Raises:
        InputError: The shapes do not fit together.
    """
    if torch.jit.is_tracing():  # the sizes are part of the trace
        sizes = [(height, width) for height, width in spatial_shapes]
        return _attend_by_grids(value, sizes, sampling_locations, attention_weights)
    shapes = [(int(height), int(width)) for height, width in _as_list(spatial_shapes)]
    _check_shapes(value, shapes, sampling_locations, attention_weights)
    dtype = torch.promote_types(value.dtype, torch.float32)
    attend = _attend_by_rows if value.device.type == "cpu" else _attend_by_grids
    output = attend(
        value.to(dtype), shapes, sampling_locations.to(dtype), attention_weights.to(dtype)
    )
    return output.to(value.dtype)


def _attend_by_grids(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The attention by ``grid_sample``, level after level: for accelerators."""
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    grids = locations * 2 - 1  # grid_sample counts from -1 to 1.
    maps = value.split([height * width for height, width in shapes], dim=1)
    output = value.new_zeros((batch * heads, dim, queries))
    for level, (height, width) in enumerate(shapes):
        # (B, H * W, heads, dim) -> (B * heads, dim, H, W)
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, dim, height, width)
        # (B, Q, heads, points, 2) -> (B * heads, Q, points, 2)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        # (B * heads, dim, Q, points)
        samples = F.grid_sample(
            image, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        output = output + (samples * weight[:, None]).sum(dim=-1)
    return output.view(batch, heads * dim, queries).transpose(1, 2).contiguous()


# Width of the frame of zeros around each map on the CPU. With two, there is a place beyond each
# edge where all four pixels around a sample are zero.
_FRAME = 2


def _attend_by_rows(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The attention as weighted sums of a table's rows, one per pixel and head: for the CPU.

    There ``grid_sample`` gathers each number of a pixel from another plane and writes every
    sample out before they are summed up. Here a pixel is one run of memory, and only sums are
    written.
    """
    batch, _, heads, dim = value.shape
    _, queries, _, levels, points, _ = locations.shape
    maps = value.split([height * width for height, width in shapes], dim=1)
    framed = [
        F.pad(pixels.unflatten(1, shape), (0, 0, 0, 0, *[_FRAME] * 4)).flatten(1, 2)
        for pixels, shape in zip(maps, shapes, strict=True)
    ]
    rows = torch.cat(framed, dim=1)

    # Facts of the levels and heads are spelled out for the heads * levels * points samples of a
    # query: elementwise operations are slow where the last dimension is short. 32 bits count
    # enough rows and are sorted in half the time of 64.
    level = torch.arange(levels).repeat_interleave(points).repeat(heads)
    head = torch.arange(heads, dtype=torch.int32).repeat_interleave(levels * points)
    starts = accumulate((pixels.shape[1] for pixels in framed[:-1]), initial=0)
    facts = [
        (width, height, start, width + 2 * _FRAME)
        for (height, width), start in zip(shapes, starts, strict=True)
    ]
    width, height, start, line = torch.tensor(facts, dtype=torch.int32)[level].unbind(-1)
    size = torch.stack([width, height], dim=-1).to(locations.dtype)

    # In pixels; 0 is the center of the first one of the frame.
    places = torch.addcmul(
        size.new_tensor(_FRAME - 0.5), locations.contiguous().flatten(2, 4), size
    )
    with torch.no_grad():
        # What is outside of the map goes into the frame; so does NaN, which is no row's number.
        cells = places.clamp_min(0).minimum(size + _FRAME).nan_to_num_(0).int()
    # Fractions have the gradient of the places. In the frame they do not matter.
    x, y = places.frac().movedim(-1, 0).contiguous()

    image = torch.arange(batch, dtype=torch.int32)[:, None, None] * (rows.shape[1] * heads)
    down = line * heads
    corner = torch.addcmul(image + start * heads + head, cells[..., 1], down)
    corner.add_(cells[..., 0], alpha=heads)
    steps = (0, heads, down, down + heads)

    bags = (batch * queries * heads, levels * points)
    sums = _SumOfSamples.apply(
        rows.view(-1, dim),
        torch.cat([(corner + step).view(bags) for step in steps], dim=1),
        x.view(bags),
        y.view(bags),
        weights.reshape(bags),
    )
    return sums.view(batch, queries, heads * dim)


class _SumOfSamples(Function):
    """Weighted sums of bilinear samples: ``embedding_bag`` with a faster gradient.

    That of autograd takes several times as long, both for the rows and for the weights.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, rows: Tensor, index: Tensor, x: Tensor, y: Tensor, weights: Tensor
    ) -> Tensor:
        """Sum up.

        Args:
            ctx (FunctionCtx): Keeps the other arguments for the backward.
            rows (Tensor): (R, dim), the pixels.
            index (Tensor): (bags, 4 n), the rows of the pixels at the upper left of each sample,
                then at the upper right, lower left and lower right. One order must sort each.
            x (Tensor): (bags, n), how far the samples are on the way from left to right.
            y (Tensor): (bags, n), and from up to down.
            weights (Tensor): (bags, n), how much the samples count.

        Returns:
            Tensor: (bags, dim).
        """
        ctx.save_for_backward(rows, index, x, y, weights)
        rows = rows.detach()  # or embedding_bag prepares for a backward of its own
        shares = torch.cat(_shares(x, y, weights), dim=1)
        return F.embedding_bag(index, rows, mode="sum", per_sample_weights=shares)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all but the index, where they are needed."""
        rows, index, x, y, weights = ctx.saved_tensors
        grad = grad.contiguous()  # that of a plain sum is one number, expanded
        grad_rows = grad_x = grad_y = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_rows = _scatter(grad, index, _shares(x, y, weights), len(rows))
        if any(ctx.needs_input_grad[2:]):
            left, right, low_left, low_right = _dots(grad, rows, index).chunk(4, dim=1)
            top, bottom = left.lerp(right, x), low_left.lerp(low_right, x)
            across = (right - left).lerp(low_right - low_left, y)
            grad_x, grad_y = across * weights, (bottom - top) * weights
            grad_weights = top.lerp(bottom, y)
        return grad_rows, None, grad_x, grad_y, grad_weights


def _shares(x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
    """How much the four pixels around each sample count, in the order of the index."""
    low = weights * y
    high = weights - low
    right, low_right = high * x, low * x
    return [high.sub_(right), right, low.sub_(low_right), low_right]


# The next two are custom operators because torch.compile cannot trace what is in them, and to
# refuse second derivatives: every gradient comes from one of the two.
@torch.library.custom_op("mmbeit3::scatter_samples", mutates_args=(), device_types="cpu")
def _scatter(grad: Tensor, index: Tensor, shares: Sequence[Tensor], count: int) -> Tensor:
    """For each of ``count`` rows, sum up the gradients (bags, dim) of the bags that list it."""
    corners = [corner.flatten() for corner in index.chunk(4, dim=1)]
    order = corners[0].argsort()
    bags = order.div(shares[0].shape[1], rounding_mode="floor").to(index.dtype)

    def scattered(corner: Tensor, share: Tensor) -> Tensor:
        uses = corner.bincount(minlength=count)
        starts = (uses.cumsum(0) - uses).to(index.dtype)
        # Indexing by brackets takes several times as long as index_select.
        share = share.flatten().index_select(0, order)
        return F.embedding_bag(bags, grad, starts, mode="sum", per_sample_weights=share)

    return reduce(Tensor.add_, map(scattered, corners, shares))


@_scatter.register_fake
def _(grad: Tensor, index: Tensor, shares: Sequence[Tensor], count: int) -> Tensor:
    return grad.new_empty((count, grad.shape[1]))


@torch.library.custom_op("mmbeit3::dot_samples", mutates_args=(), device_types="cpu")
def _dots(grad: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """Scalar products, in the shape of the index, of each bag's gradient with its rows."""
    starts = torch.arange(0, index.numel() + 1, index.shape[1], dtype=index.dtype)
    zeros = grad.new_zeros(index.numel())
    size = (len(grad), len(rows))
    with warnings.catch_warnings():
        # Once per process torch says that the type is in beta.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        dots = torch.sparse_csr_tensor(starts, index.flatten(), zeros, size, check_invariants=False)
    # A product of matrices of which only the listed entries are computed.
    return torch.sparse.sampled_addmm(dots, grad, rows.t(), out=dots).values().view_as(index)


@_dots.register_fake
def _(grad: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    return grad.new_empty(index.shape)


def _refuse(ctx: FunctionCtx, grad: Tensor) -> NoReturn:
    raise NotImplementedError(
        "Multi-scale deformable attention has no second derivative on the CPU."
    )


_scatter.register_autograd(_refuse)
_dots.register_autograd(_refuse)


def _as_list(spatial_shapes: Tensor | Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    return spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes


def _check_shapes(
    value: Tensor,
    shapes: list[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    keys = sum(height * width for height, width in shapes)
    if value.ndim != 4 or value.shape[1] != keys:
        raise InputError(
            f"value has shape {tuple(value.shape)}; expected (B, {keys}, heads, dim) "
            f"for maps of the sizes {shapes}."
        )
    batch, _, heads, _ = value.shape
    found, weights = tuple(sampling_locations.shape), tuple(attention_weights.shape)
    fits = len(found) == 6 and found[-1] == 2 and found[:-1] == weights
    if not fits or (found[0], found[2], found[3]) != (batch, heads, len(shapes)):
        raise InputError(
            f"sampling_locations has shape {found} and attention_weights {weights}; expected "
            f"({batch}, Q, {heads}, {len(shapes)}, points, 2) and the same without the 2."
        )
