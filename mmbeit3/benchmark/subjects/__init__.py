"""The pieces of work that are measured; a module is imported when its work is asked for."""

from __future__ import annotations

from importlib import import_module

from mmbeit3.benchmark.contest import Subject
from mmbeit3.benchmark.options import Options

#: Name on the command line -> module here; the function in it is called as the subject.
MODULES = {
    "tower": "tower",
    "tower-sizes": "tower",
    "tower-batches": "tower",
    "detector": "detector",
    "segmentor": "segmentor",
    "folder": "folder",
    "evaluation": "evaluation",
    "loading": "loading",
    "training": "training",
    "deform-attn": "deform_attn",
    "soft-nms": "soft_nms",
    "soft-nms-boxes": "soft_nms",
}


def make_subject(name: str, options: Options) -> Subject:
    """Set up a subject of :data:`MODULES`."""
    module = import_module(f"{__name__}.{MODULES[name]}")
    return getattr(module, name.replace("-", "_"))(options)
