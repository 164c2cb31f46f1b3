"""Imports without garbage collections.

The toolboxes make a million objects that live as long as the process. Python looks through them
again and again while they come, in search of garbage that is not there: an eighth of the time that
``mmbeit3 infer`` takes to start.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGES = {"mmbeit3", "mmcv", "mmdet", "mmengine", "mmseg", "timm", "torch", "torchvision"}
MANY = 50_000  # objects of an import that are worth a hint to Python that they stay


class _WithoutCollections(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not gc.isenabled() or fullname.partition(".")[0] not in PACKAGES:
            return None  # above all: an import inside of one that this has found
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                break
        else:
            return None
        if spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_uncollected(module: ModuleType) -> None:
                with without_collections():
                    execute(module)

            spec.loader.exec_module = execute_uncollected  # type: ignore[method-assign]
        return spec


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
    if not any(isinstance(finder, _WithoutCollections) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutCollections())
