"""Runs the code of chosen modules within a context while they are imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Makes the context in which a module runs.
Context = Callable[[ModuleType], AbstractContextManager[None]]


def import_within(choose: Callable[[str], Context | None]) -> None:
    """See to it that modules are imported within a context from now on; once for each function.

    Args:
        choose (Callable[[str], Context | None]): Returns the context of the module of a name; None
            leaves the module to others.
    """
    if not any(isinstance(one, _Finder) and one.choose is choose for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder(choose))


class _Finder(MetaPathFinder):
    def __init__(self, choose: Callable[[str], Context | None]) -> None:
        self.choose = choose

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        context = self.choose(fullname)
        if context is None:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                break
        else:
            return None
        if spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_within(module: ModuleType) -> None:
                with context(module):
                    execute(module)

            spec.loader.exec_module = execute_within  # type: ignore[method-assign]
        return spec
