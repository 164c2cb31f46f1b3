"""Top-level names of a config that have no effect, and the keys to set instead."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmbeit3.config.dump import is_dump, is_edited_dump
from mmbeit3.config.files import ConfigFile, differences, load_with, read_files
from mmbeit3.config.keys import is_read, meant_keys
from mmbeit3.utils import listed

MAX_VALUE = 40  # characters of a value that is shown


def names_without_effect(cfg: Config, path: Path) -> Iterator[str]:
    """Find names that the user's files set and nothing reads.

    These are variables that a base has used up already, and names that no file, the Runner nor a
    tool knows. One whose value would change nothing, or that nothing in the config resembles, is no
    complaint.

    Args:
        cfg: The config, as loaded.
        path: Its file.

    Yields:
        A sentence about each, with the keys to set instead.
    """
    if is_dump(path):
        return
    try:
        leaf = read_files(path)
    except SyntaxError:  # before mmengine fills in {{$VARIABLE:default}} without quotes
        return
    if leaf is None:
        return
    for file, children in _with_children(leaf):
        unread = {
            name
            for name in file.assigned - file.read - file.read_of_bases
            if name in cfg and not is_read(name) and not name.startswith("_")
        }
        unread -= {name for child in children for name in (*child.assigned, *child.read_of_bases)}
        known = {name for base in file.ancestors() for name in base.assigned}
        for name in sorted(unread & known):
            if keys := _filled(leaf, file, name, cfg[name]):
                yield (
                    f"config {file.path}: {name} has no effect here, a base has used it already; "
                    f"set instead {keys}"
                )
        if file.packaged and file is not leaf:
            continue
        hints = {name: hint for name in sorted(unread - known) if (hint := _meant(cfg, file, name))}
        if len(hints) > 1 and is_edited_dump(Path(file.path)):  # all its variables are used already
            yield (
                f"config {file.path}: edited since a training wrote it; its variables "
                f"{', '.join(map(repr, hints))} have no effect: edit the keys that hold their "
                "values, such as train_cfg.max_iters"
            )
            continue
        yield from (
            f"config {file.path}: nothing reads {name!r}; {hint}" for name, hint in hints.items()
        )


def keys_filled(cfg: Config, option: str, value: Any) -> str:
    """Name the keys that take their value from a variable of a config's files.

    Args:
        cfg: The config, before the option.
        option: The variable, or a dotted key in it.
        value: The new value.

    Returns:
        The keys with the values that they would have, '' for none.
    """
    name = option.partition(".")[0]
    changed = Config({name: copy.deepcopy(cfg[name])})
    changed.merge_from_dict({option: value})
    try:
        leaf = read_files(cfg.filename)
    except SyntaxError:
        return ""
    return _filled(leaf, None, name, changed.to_dict()[name]) if leaf else ""


def _with_children(
    file: ConfigFile, children: tuple[ConfigFile, ...] = ()
) -> Iterator[tuple[ConfigFile, tuple[ConfigFile, ...]]]:
    """Each file of a config with those that inherit from it."""
    yield file, children
    for base in file.bases:
        yield from _with_children(base, (*children, file))


def _filled(leaf: ConfigFile, file: ConfigFile | None, name: str, value: Any) -> str:
    """The keys that change if all files, or all bases of ``file``, give a name this value."""
    value = _plain(value)
    try:
        old = load_with(leaf, {})
        new = load_with(leaf, {name: value}, above=file)
    except Exception:  # the value is none for which the files work
        return ""
    found = [(key, new) for key, new in differences(old, new) if is_read(key.partition(".")[0])]
    return listed((_setting(*item) for item in found), 8)


def _setting(key: str, value: Any) -> str:
    text = repr(value)
    return key if len(text) > MAX_VALUE else f"{key}={text}"


def _plain(value: Any) -> Any:
    return Config({"value": copy.deepcopy(value)}).to_dict()["value"]


def _meant(cfg: Mapping[str, Any], file: ConfigFile, name: str) -> str:
    """What an unknown name of a file may have been meant to be."""
    variables = file.assigned & file.read
    if close := difflib.get_close_matches(name, variables, n=1, cutoff=0.8):
        return f"did you mean {close[0]!r}?"
    keys = meant_keys(cfg, name)
    return f"set instead {', '.join(keys)}" if keys else ""
