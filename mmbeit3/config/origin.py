"""Where a value of a config comes from: the user's own files and options, or a package's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.config import Config

from mmbeit3.config.files import ConfigFile, read_files


def set_by_user(cfg: Config, places: Iterable[str]) -> list[str]:
    """Tell which keys have another value than the package's configs below the user's give them.

    Args:
        cfg: The config, as loaded and with its options.
        places: Dotted keys.

    Returns:
        Those that the user's own file, an option or a program has set. The file that was loaded is
        the user's, wherever it is.
    """
    try:
        leaf = read_files(cfg.filename) if cfg.filename else None
    except (OSError, SyntaxError):  # gone since, or not readable as it stands
        return []
    given: dict[str, Any] = {}
    for base in _packaged(leaf) if leaf else ():
        given |= Config.fromfile(base.path, import_custom_modules=False).to_dict()
    return [place for place in places if _value(given, place) != _value(cfg, place)]


def _packaged(file: ConfigFile) -> Iterable[ConfigFile]:
    """The topmost files below one that come with a package."""
    for base in file.bases:
        if base.packaged:
            yield base
        else:
            yield from _packaged(base)


def _value(node: Any, place: str) -> Any:
    for part in place.split("."):
        if isinstance(node, (list, tuple)):
            node = node[int(part)] if int(part) < len(node) else None
        else:
            node = node.get(part) if hasattr(node, "get") else None
    return node
