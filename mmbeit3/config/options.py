"""Values that replace those of a config file, as ``--cfg-options`` gives them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmbeit3.config.keys import is_read, meant_keys
from mmbeit3.config.option_values import OPTIONS
from mmbeit3.config.variables import keys_filled
from mmbeit3.utils import InputError, warn

SIMILAR = 0.7


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Put values into a config, in place, if their keys mean something.

    Args:
        cfg: The config.
        options: Dotted keys, with numbers for list entries, and values. A key may be new only where
            a class may take it.

    Raises:
        InputError: A key is misspelled, leads nowhere, or is a variable that was used already.
    """
    for option, value in options.items():
        node: Any = cfg
        parts = option.split(".")
        for depth, part in enumerate(parts):
            if isinstance(node, (list, tuple)):
                _check_index(option, part, node)
                node = node[int(part)]
            elif part in node:
                node = node[part]
                if node is None and depth + 1 < len(parts):
                    node = _fill(cfg, parts[: depth + 1])
            else:
                _check_new_key(cfg, option, parts, depth, node)
                break
            if depth + 1 < len(parts) and not isinstance(node, (dict, list, tuple)):
                place = ".".join(parts[: depth + 1])
                raise InputError(f"{option}: {place} is {node!r}, not a dict or list", OPTIONS)
        _check_variable(cfg, option, parts[0], value)
    cfg.merge_from_dict(dict(options))


def _check_variable(cfg: Config, option: str, name: str, value: Any) -> None:
    if name in cfg and not is_read(name):
        keys = keys_filled(cfg, option, value)
        found = f"{option}: {name} is a variable of the config file, which has used it already"
        if keys:
            raise InputError(f"{found}; set instead {keys}", OPTIONS)
        warn(f"{OPTIONS}: {found}, and this value changes no key")


def _check_index(option: str, part: str, node: Sequence[Any]) -> None:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(
            f"{option}: {part!r} stands where a list has {len(node)} entries; "
            f"expected a number from 0 to {len(node) - 1}",
            OPTIONS,
        )


def _check_new_key(
    cfg: Config, option: str, parts: list[str], depth: int, node: Mapping[str, Any]
) -> None:
    name = parts[depth]
    if depth == 0 and is_read(name):  # one that this config does without
        return
    inside = ".".join(parts[:depth]) or "the config"
    last = depth + 1 == len(parts)
    known = [key for key in node if depth or is_read(key)]
    similar = difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
    takes_any = "type" in node and depth > 0
    if similar and not (last and takes_any):
        raise InputError(
            f"{option}: {inside} has no {name!r}; "
            f"did you mean {'.'.join([*parts[:depth], similar[0], *parts[depth + 1 :]])!r}?",
            OPTIONS,
        )
    if depth == 0 and (keys := meant_keys(cfg, name)):
        raise InputError(
            f"{option}: nothing reads {name!r}; set instead {', '.join(keys)}", OPTIONS
        )
    if not (last or takes_any) or depth == 0:
        raise InputError(f"{option}: {inside} has no {name!r}; it has {', '.join(node)}", OPTIONS)


def _fill(cfg: Config, parts: list[str]) -> ConfigDict:
    """Put an empty dict where the config says None (``init_cfg=None``), for options to fill."""
    node: Any = cfg
    for part in parts[:-1]:
        node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
    node[parts[-1]] = ConfigDict()
    return node[parts[-1]]
