"""Positions and patch kernels of other sizes, against OpenCV, timm and numpy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from mmbeit3.checkpoint.resizing import (
    resize_patch_kernel,
    resize_position_embedding,
    tile_position_embedding,
)

GRIDS = [(24, 24), (7, 7), (16, 9), (9, 40), (14, 28), (3, 14), (1, 1), (1, 5)]


def table(height: int = 14, width: int = 14, channels: int = 8) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, height, width, channels)


@pytest.mark.parametrize("size", GRIDS)
def test_positions_are_resized_as_timm_does_without_antialiasing(size: tuple[int, int]) -> None:
    for grid in (table(), table(6, 11)):
        old = list(grid.shape[1:3])
        want = resample_abs_pos_embed(
            grid.flatten(1, 2), list(size), old, num_prefix_tokens=0, antialias=False
        )
        assert torch.equal(resize_position_embedding(grid, size), want)


@pytest.mark.parametrize("size", GRIDS)
def test_positions_are_resized_as_images_are_by_opencv(size: tuple[int, int]) -> None:
    # OpenCV's cubic, too, has a = -0.75, half-pixel centers and repeated borders.
    grid = table(6, 11, 4)
    want = cv2.resize(grid[0].numpy(), size[::-1], interpolation=cv2.INTER_CUBIC)
    got = resize_position_embedding(grid, size).unflatten(1, size)[0]
    np.testing.assert_allclose(got.numpy(), want.reshape(got.shape), rtol=0, atol=1e-5)


def test_positions_of_the_same_grid_stay_as_they_are() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        grid = table(6, 11).to(dtype)
        resized = resize_position_embedding(grid, (6, 11))
        assert resized.dtype == dtype and torch.equal(resized, grid.flatten(1, 2))


def test_half_precision_positions_are_resized_in_single() -> None:
    grid = table().half()
    got = resize_position_embedding(grid, (24, 20))
    want = resize_position_embedding(grid.float(), (24, 20))
    in_half = F.interpolate(grid.permute(0, 3, 1, 2), size=(24, 20), mode="bicubic")
    assert torch.equal(got, want.half())
    assert not torch.equal(got, in_half.flatten(2).transpose(1, 2))
    assert resize_position_embedding(table().double(), (24, 20)).dtype == torch.float64


@pytest.mark.parametrize("size", [(8, 12), (4, 4), (6, 7), (9, 3), (2, 3)])
def test_tiling_repeats_the_whole_table_and_cuts_it_at_the_edges(size: tuple[int, int]) -> None:
    grid = table(4, 4)
    tiled = tile_position_embedding(grid, size).unflatten(1, size)
    for row in range(size[0]):
        for column in range(size[1]):
            assert torch.equal(tiled[0, row, column], grid[0, row % 4, column % 4])


def enlarge(patches: Tensor, size: int) -> Tensor:
    """Patches (N, 3, P, P) to (N, 3, size, size), each by itself, as the kernel's resize has it."""
    return F.interpolate(
        patches, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )


@pytest.mark.parametrize(("old", "new"), [(14, 16), (16, 32), (16, 24), (8, 16)])
def test_a_larger_kernel_sees_an_enlarged_patch_as_the_kernel_saw_the_patch(
    old: int, new: int
) -> None:
    torch.manual_seed(0)
    kernel, patches = torch.randn(32, 3, old, old) / old, torch.randn(20, 3, old, old)
    want = F.conv2d(patches, kernel)
    got = F.conv2d(enlarge(patches, new), resize_patch_kernel(kernel, new))
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize(("old", "new"), [(16, 14), (32, 16), (16, 8)])
def test_a_smaller_kernel_comes_as_near_as_any_can(old: int, new: int) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, old, old) / old
    pixels = torch.eye(old * old, dtype=torch.float64).reshape(-1, 1, old, old)
    resize = enlarge(pixels, new).flatten(1).numpy()  # (old * old, new * new)
    want, *_ = np.linalg.lstsq(resize, kernel.double().flatten(2).flatten(0, 1).T.numpy())
    got = resize_patch_kernel(kernel, new).flatten(2).flatten(0, 1).T.numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_plain_interpolation_of_the_kernel_would_change_the_scale_of_tokens() -> None:
    torch.manual_seed(0)
    kernel, patches = torch.randn(32, 3, 16, 16) / 16, torch.randn(20, 3, 16, 16)
    plain = F.interpolate(kernel, size=(32, 32), mode="bicubic")
    large = enlarge(patches, 32)
    want = F.conv2d(patches, kernel)
    assert F.conv2d(large, plain).std() > 2.5 * want.std()
    fitted = F.conv2d(large, resize_patch_kernel(kernel, 32))
    assert fitted.std().item() == pytest.approx(want.std().item(), rel=1e-5)


@pytest.mark.parametrize("new", [14, 32])
def test_half_precision_kernels_are_resized_in_single(new: int) -> None:
    kernel = table(16, 16, 6).permute(3, 0, 1, 2).expand(-1, 3, -1, -1).half()
    got = resize_patch_kernel(kernel, new)
    assert torch.equal(got, resize_patch_kernel(kernel.float(), new).half())
    assert torch.equal(resize_patch_kernel(kernel, 16), kernel)
