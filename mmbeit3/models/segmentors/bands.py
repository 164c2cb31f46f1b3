"""How many rows of a map are worked on at once."""

from __future__ import annotations

import torch

CORE_BAND = 4 * 2**20  # bytes: about what stays in the cache of a core
MAX_BAND = 64 * 2**20  # bytes: enough work for a GPU


def rows_per_band(row_bytes: int, device: torch.device) -> int:
    """Return how many rows of ``row_bytes`` bytes make a band on ``device``, 1 or more."""
    band = CORE_BAND * torch.get_num_threads() if device.type == "cpu" else MAX_BAND
    return max(1, min(band, MAX_BAND) // row_bytes)
