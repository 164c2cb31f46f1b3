"""``--cfg-options`` of the command line as keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

from mmbeit3.utils import InputError

OPTIONS = "cfg_options"  # what the values are called


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Turn ``--cfg-options`` into a dict, with mmengine's reading of values.

    Args:
        pairs: ``key=value`` strings; a value is a number, a bool, None, a string, or a list
            (``a,b`` or ``[a,b]``) or tuple (``(a,b)``) of such.

    Returns:
        Dotted keys to values, for :func:`load_config`.

    Raises:
        InputError: A string holds no ``=`` or its brackets do not close.
    """
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"takes key=value; found {pair!r}", OPTIONS)
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise InputError(f"{pair}: {error}", OPTIONS) from error
    return options
