"""Lets ``mmengine.hub.get_config("mmbeit3::...")`` find this package.

mmengine has a fixed list of the packages whose configs it reads. This one is added to it, at once
or when mmengine is imported, so that ``import mmbeit3`` stays cheap.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "mmbeit3"
LISTING = "mmengine.config.utils"


class _AddPackage(MetaPathFinder):
    """Adds the package once mmengine's list has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LISTING:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_add(module: ModuleType) -> None:
            execute(module)
            _add(module)

        spec.loader.exec_module = execute_and_add  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Add this package to mmengine's list, now or when it is imported."""
    if LISTING in sys.modules:
        _add(sys.modules[LISTING])
    elif not any(isinstance(finder, _AddPackage) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AddPackage())


def _add(listing: ModuleType) -> None:
    listing.MODULE2PACKAGE.setdefault(PACKAGE, PACKAGE)
