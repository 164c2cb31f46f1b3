"""Checkpoint files: reading them without running their code, and loading them into a model."""

from mmbeit3.checkpoint.loading import LoadReport, Mismatch, load_weights
from mmbeit3.checkpoint.reading import check_checkpoint, read_checkpoint, state_dict_of

__all__ = [
    "LoadReport",
    "Mismatch",
    "check_checkpoint",
    "load_weights",
    "read_checkpoint",
    "state_dict_of",
]
