"""Configs by name: ``mmbeit3 train NAME`` from any folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.packaged_configs import PREFIX, config_names, configs_folder, packaged_configs
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import similar_files

DATA_SUFFIXES = (".json", ".yaml", ".yml")


def check_config(name: str | Path) -> Path:
    """Find a config file, of which it is known without reading it that it can be one.

    Args:
        name (str | Path): As :func:`find_config` takes it.

    Returns:
        Path: The file.

    Raises:
        InputError: There is no such file, or it is none that can be read.
    """
    path, _ = _find(name)
    check_regular(path, "config")
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"config {path} {kind}{similar_files(path)}")
    if path.suffix not in (".py", *DATA_SUFFIXES):
        raise InputError(
            f"config {path} ends in {path.suffix or 'no suffix'}; expected a .py, .yaml or .json "
            "file: the config comes first, then the checkpoint"
        )
    return path


def find_config(name: str | Path) -> Path:
    """Find a config file by its path, or one of this package by its name, and say which it is.

    Args:
        name (str | Path): A path; or a name without folder and suffix, for which a file ``NAME.py``
            in the working folder comes before the package's config; or ``mmbeit3::FOLDER/NAME.py``.

    Returns:
        Path: The file; of a path, whether or not it is there.

    Raises:
        InputError: It is a name, and there is no such config.
    """
    path, text = _find(name)
    if text:
        from mmengine.logging import print_log  # brings torch

        print_log(f"config {name}: {text}", "current")
    return path


def _find(name: str | Path) -> tuple[Path, str]:
    """Find a config, and what to say of a bare name."""
    text = str(name)
    if text.startswith(PREFIX):
        try:
            return Path(packaged_configs(text.removeprefix(PREFIX))[0]), ""
        except FileNotFoundError as error:
            raise InputError(str(error)) from None
    path = Path(text).expanduser()
    if len(path.parts) != 1 or path.suffix or path.exists():
        return path, ""
    packaged = config_names().get(text)
    own = path.with_name(f"{text}.py")
    if own.exists():
        instead = f", not this package's {PREFIX}{packaged}" if packaged else ""
        return own, f"{own} of the working folder{instead}"
    if packaged is None:
        raise InputError(f"config {text} does not exist{_similar(text)}")
    return configs_folder() / packaged, f"{PREFIX}{packaged} of this package"


def _similar(name: str) -> str:
    """Name what may have been meant, as the end of a message."""
    known = config_names()
    inside = sorted(other for other in known if name and name in other)
    close = difflib.get_close_matches(name, known, n=3) or inside[:3]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f", neither here nor in this package{hint} `mmbeit3 configs` lists all names"
