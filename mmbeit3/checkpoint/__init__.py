"""Checkpoint files: reading them without running their code, and loading them into a model.

Each function is imported when it is first asked for: ``mmbeit3 info`` needs torch alone, and a
command must say at once that a file is not there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbeit3.checkpoint.class_names import dataset_meta_of
    from mmbeit3.checkpoint.layouts import (
        Tower,
        find_layout,
        official_state_dict,
        read_tower,
    )
    from mmbeit3.checkpoint.loading import (
        load_backbone,
        load_experts,
        load_task,
        load_towers,
        load_weights,
    )
    from mmbeit3.checkpoint.reading import check_checkpoint, read_checkpoint, state_dict_of
    from mmbeit3.checkpoint.report import LoadReport, Mismatch
    from mmbeit3.checkpoint.safe_loading import load_safely, loading_safely
    from mmbeit3.checkpoint.saving import save_checkpoint, write_durably
    from mmbeit3.checkpoint.tasks import find_task, from_official, to_official

__all__ = [
    "LoadReport",
    "Mismatch",
    "Tower",
    "check_checkpoint",
    "dataset_meta_of",
    "find_layout",
    "find_task",
    "from_official",
    "load_backbone",
    "load_experts",
    "load_safely",
    "load_task",
    "load_towers",
    "load_weights",
    "loading_safely",
    "official_state_dict",
    "read_checkpoint",
    "read_tower",
    "save_checkpoint",
    "state_dict_of",
    "to_official",
    "write_durably",
]

_HOMES = {
    "to_official": "tasks",
    "from_official": "tasks",
    "find_task": "tasks",
    "load_towers": "loading",
    "load_task": "loading",
    "LoadReport": "report",
    "Mismatch": "report",
    "Tower": "layouts",
    "check_checkpoint": "reading",
    "dataset_meta_of": "class_names",
    "find_layout": "layouts",
    "load_backbone": "loading",
    "load_experts": "loading",
    "load_safely": "safe_loading",
    "load_weights": "loading",
    "loading_safely": "safe_loading",
    "official_state_dict": "layouts",
    "read_checkpoint": "reading",
    "read_tower": "layouts",
    "save_checkpoint": "saving",
    "state_dict_of": "reading",
    "write_durably": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmbeit3.checkpoint.{_HOMES[name]}"), name)
