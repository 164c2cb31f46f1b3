"""Configs: what they say, checked before anything is built."""

from mmbeit3.config.arguments import check_arguments
from mmbeit3.config.bases import explain_missing
from mmbeit3.config.bases import install as _install_bases
from mmbeit3.config.classes import resolve_classes
from mmbeit3.config.keys import TTA_PIPELINES, is_read, meant_keys, runner_keys
from mmbeit3.config.loading import load_config
from mmbeit3.config.monitors import check_monitors
from mmbeit3.config.options import parse_options
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
