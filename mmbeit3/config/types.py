"""Registered classes by the ``type`` that a config gives, and what to say when there is none."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from mmengine import registry as roots
from mmengine.registry import Registry

Kind = Callable[..., Any]
SIMILAR = 0.6
SCOPES = ("mmbeit3", "mmdet", "mmseg", "mmengine")


class TypeFinder:
    """Looks up types as the Runner will, under a default scope.

    Args:
        scope (str, optional): The config's ``default_scope``. Defaults to None, mmengine.
    """

    def __init__(self, scope: str | None = None) -> None:
        self.scope = scope or "mmengine"

    def find(self, name: Any, registries: Sequence[str], scope: str | None = None) -> Kind | None:
        """Find a class or function.

        Args:
            name (Any): The ``type``: a name, with or without scope, or the class itself.
            registries (Sequence[str]): Names of mmengine's root registries, such as 'MODELS'.
            scope (str, optional): The ``_scope_`` beside the type. Defaults to None.

        Returns:
            Callable | None: The class, or None if no registry has it.
        """
        if not isinstance(name, str):
            return name if callable(name) else None
        for registry in registries:
            found = _get(_within(getattr(roots, registry), scope or self.scope), name)
            if found is not None:
                return found
        return None

    def explain(self, name: str, registries: Sequence[str], scope: str | None = None) -> str:
        """Say where ``name`` was looked for, and what it may have meant."""
        scope = scope or self.scope
        prefix, dot, bare = name.rpartition(".")
        if dot and not _is_scope(prefix.partition(".")[0]):
            return f"the package {prefix.partition('.')[0]!r} is not installed here"
        known = self._names(registries, scope)
        same = [other for other in known if other.rpartition(".")[2] == bare]
        close = same or _similar(name, known) or _similar(bare, known)
        found = f"the {registries[0]} registry of {prefix or scope} has none of this name"
        if close:
            found += f"; did you mean {' or '.join(map(repr, close))}?"
        if same:
            return found
        found = found if close else f"{found}."
        return f"{found} A class of your own needs custom_imports = dict(imports=['its.module'])"

    def _names(self, registries: Sequence[str], scope: str) -> list[str]:
        """All names of some registries, as a config of this scope writes them."""
        names = []
        for registry in registries:
            root = getattr(roots, registry)
            for other in dict.fromkeys((scope, *SCOPES)):
                within = _within(root, other)
                if within.scope == other or within is root:
                    bare = other in (scope, "mmengine")
                    names += [key if bare else f"{other}.{key}" for key in within.module_dict]
        return list(dict.fromkeys(names))


def _within(root: Registry, scope: str) -> Registry:
    """The child of a root registry that belongs to a scope, else the root; filled."""
    if _is_scope(scope):
        child = root._search_child(scope)  # an empty one is false
        root = root if child is None else child
    root.import_from_location()
    return root


def _is_scope(name: str) -> bool:
    try:
        import_module(f"{name}.registry")
    except ImportError:
        return False
    return True


def _get(registry: Registry, name: str) -> Kind | None:
    try:
        return registry.get(name)
    except Exception:  # mmengine raises a RuntimeError with no more to say than None
        return None


def _similar(name: str, known: Sequence[str]) -> list[str]:
    """Up to three names like this one, whatever the case."""
    lowered = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=SIMILAR)
    return [lowered[other] for other in found]
