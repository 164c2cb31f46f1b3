from __future__ import annotations

import numpy as np

from mmbeit3.datasets.palette import make_palette


def test_no_two_colors_are_alike_and_none_is_near_black() -> None:
    palette = make_palette(255)
    assert len(set(palette)) == 255
    assert palette[:20] == make_palette(20)
    assert min(max(color) for color in palette) > 200
    first = np.array(palette[:8], float)
    distances = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(8)
    assert distances.min() > 60
    neighbors = np.array(palette, float)
    assert np.linalg.norm(neighbors[1:] - neighbors[:-1], axis=1).min() > 100
