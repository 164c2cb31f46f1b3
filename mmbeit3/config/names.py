"""Configs by name: ``mmbeit3 train NAME`` from any folder."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

from mmengine.logging import print_log

from mmbeit3.utils import InputError
from mmbeit3.utils.packaged_configs import PREFIX, config_names, configs_folder, packaged_configs


def find_config(name: str | Path) -> Path:
    """Find a config file by its path, or one of this package by its name.

    Args:
        name (str | Path): A path; or a name without folder and suffix, for which a file ``NAME.py``
            in the working folder comes before the package's config; or ``mmbeit3::FOLDER/NAME.py``.

    Returns:
        Path: The file; of a path, whether or not it is there.

    Raises:
        InputError: It is a name, and there is no such config.
    """
    text = str(name)
    if text.startswith(PREFIX):
        try:
            return Path(packaged_configs(text.removeprefix(PREFIX))[0])
        except FileNotFoundError as error:
            raise InputError(str(error)) from None
    path = Path(text).expanduser()
    if len(path.parts) != 1 or path.suffix or path.exists():
        return path
    packaged = config_names().get(text)
    own = path.with_name(f"{text}.py")
    if own.exists():
        instead = f", not this package's {PREFIX}{packaged}" if packaged else ""
        print_log(f"config {text}: {own} of the working folder{instead}", "current")
        return own
    if packaged is None:
        raise InputError(f"config {text} does not exist{_similar(text)}")
    print_log(f"config {text}: {PREFIX}{packaged} of this package", "current", logging.INFO)
    return configs_folder() / packaged


def _similar(name: str) -> str:
    """Name what may have been meant, as the end of a message."""
    known = config_names()
    inside = sorted(other for other in known if name and name in other)
    close = difflib.get_close_matches(name, known, n=3) or inside[:3]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f", neither here nor in this package{hint} `mmbeit3 configs` lists all names"
