"""What a config says about the devices of a training: their share of a batch and of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def auto_accumulation(cfg: Mapping[str, Any], images: int) -> int | None:
    """Count the micro-batches of ``images`` (over all devices) that make the recipe's batch.

    The recipe's is ``auto_scale_lr.base_batch_size``; None if the config does not state it.
    """
    recipe = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    return max(1, round(recipe / images)) if recipe else None


def shards(wrapper_cfg: Mapping[str, Any] | None) -> bool:
    """Tell whether a config's ``model_wrapper_cfg`` divides the model over the devices."""
    return str((wrapper_cfg or {}).get("type")).rpartition(".")[2] == "FullySharded"
