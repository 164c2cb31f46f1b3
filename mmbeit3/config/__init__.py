"""Configs: what they say, checked before anything is built.

Each function is imported when it is first asked for: a command must say at once that its config is
not there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmbeit3.config.bases import install as _install_bases

if TYPE_CHECKING:
    from mmbeit3.config.arguments import check_arguments
    from mmbeit3.config.bases import explain_missing
    from mmbeit3.config.classes import resolve_classes
    from mmbeit3.config.keys import TTA_PIPELINES, is_read, meant_keys, runner_keys
    from mmbeit3.config.loading import load_config
    from mmbeit3.config.monitors import check_monitors
    from mmbeit3.config.option_values import parse_options
    from mmbeit3.config.origin import set_by_user
    from mmbeit3.config.variables import keys_filled, names_without_effect

_install_bases()

__all__ = [
    "TTA_PIPELINES",
    "check_arguments",
    "check_monitors",
    "explain_missing",
    "is_read",
    "keys_filled",
    "load_config",
    "meant_keys",
    "names_without_effect",
    "parse_options",
    "resolve_classes",
    "runner_keys",
    "set_by_user",
]

_HOMES = {
    "TTA_PIPELINES": "keys",
    "check_arguments": "arguments",
    "check_monitors": "monitors",
    "explain_missing": "bases",
    "is_read": "keys",
    "keys_filled": "variables",
    "load_config": "loading",
    "meant_keys": "keys",
    "names_without_effect": "variables",
    "parse_options": "option_values",
    "resolve_classes": "classes",
    "runner_keys": "keys",
    "set_by_user": "origin",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmbeit3.config.{_HOMES[name]}"), name)
