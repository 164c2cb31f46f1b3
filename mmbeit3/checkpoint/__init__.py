"""Checkpoint files: reading them without running their code, and loading them into a model."""

from mmbeit3.checkpoint.class_names import dataset_meta_of
from mmbeit3.checkpoint.layouts import (
    Tower,
    find_layout,
    official_state_dict,
    read_tower,
)
from mmbeit3.checkpoint.loading import load_backbone, load_task, load_towers, load_weights
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
