"""The window order of tokens, against a plain loop over windows."""

from __future__ import annotations

import pytest
import torch

from mmbeit3.models.layers import window_layout


def loop_windows(height: int, width: int, size: int) -> set[frozenset[int]]:
    """The token sets of every window, cut off at the right and bottom edges."""
    return {
        frozenset(
            row * width + col
            for row in range(top, min(top + size, height))
            for col in range(left, min(left + size, width))
        )
        for top in range(0, height, size)
        for left in range(0, width, size)
    }


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(8, 8, 4), (8, 12, 4), (7, 9, 4), (3, 5, 4), (4, 9, 4), (9, 4, 4), (1, 1, 16), (64, 44, 16)],
)
def test_windows_are_those_of_a_plain_loop(height: int, width: int, size: int) -> None:
    layout = window_layout(height, width, size)
    windows, start = set(), 0
    for count, tokens in layout.segments:
        run = layout.order[start : start + count * tokens].view(count, tokens)
        windows |= {frozenset(window.tolist()) for window in run}
        start += count * tokens
    assert start == height * width
    assert windows == loop_windows(height, width, size)


def test_restore_undoes_arrange() -> None:
    x = torch.randn(2, 7 * 9, 5)
    layout = window_layout(7, 9, 4)
    assert not torch.equal(layout.arrange(x), x)
    assert torch.equal(layout.restore(layout.arrange(x)), x)


def test_a_size_that_divides_has_one_segment() -> None:
    assert window_layout(64, 64, 16).segments == ((16, 256),)
    assert window_layout(10, 20, 0).segments == ((1, 200),)
