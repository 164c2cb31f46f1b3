"""Packages that only some need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from mmbeit3.utils.errors import InputError


def optional_package(name: str, use: str, extra: str | None = None) -> ModuleType:
    """Import a package that only some need.

    Args:
        name (str): The package.
        use (str): What needs it.
        extra (str, optional): The extra of this project that brings it. Defaults to None.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        wanted = f'"mmbeit3[{extra}]"' if extra else name
        raise InputError(f"{use} needs {name} ({error}): pip install {wanted}") from error
