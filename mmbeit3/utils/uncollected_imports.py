"""Imports without garbage collections.

The toolboxes make a million objects that live as long as the process. Python looks through them
again and again while they come, in search of garbage that is not there: an eighth of the time that
``mmbeit3 infer`` takes to start.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from mmbeit3.utils.import_contexts import Context, import_within

PACKAGES = {"mmbeit3", "mmcv", "mmdet", "mmengine", "mmseg", "timm", "torch", "torchvision"}
MANY = 50_000  # objects of an import that are worth a hint to Python that they stay


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage meanwhile; what is new and lives is taken for old afterwards."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # What someone has frozen would be thawed along.
        if gc.get_count()[0] > MANY and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # into the oldest generation, unseen
        gc.enable()


def install() -> None:
    """See to it that these packages are imported so from now on."""
    import_within(_choose)


def _choose(name: str) -> Context | None:
    # None also for imports inside of one that runs so already: most of them.
    is_meant = gc.isenabled() and name.partition(".")[0] in PACKAGES
    return (lambda module: without_collections()) if is_meant else None
