"""Paths of the configs that come with the package, in a checkout or installed."""

from __future__ import annotations

import difflib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PREFIX = "mmbeit3::"


def configs_folder() -> Path:
    """The folder of the package's configs: ``.mim`` where it is installed, else the checkout's."""
    installed = PACKAGE / ".mim" / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def config_names() -> dict[str, str]:
    """Names of the whole configs (not of their bases), and their paths below ``configs``."""
    folder = configs_folder()
    paths = sorted(folder.glob("[!_]*/*.py"))
    return {path.stem: path.relative_to(folder).as_posix() for path in paths}


def packaged_configs(*names: str) -> list[str]:
    """Find configs of this package, to inherit from them in a config that lies anywhere.

    ``_base_ = __import__("mmbeit3").packaged_configs("beit3_vitdet/NAME.py")`` is understood by
    everything that reads configs with mmengine. The tools of this project also know
    ``_base_ = "mmbeit3::beit3_vitdet/NAME.py"``.

    Args:
        *names: Their paths below ``configs``.

    Returns:
        Their full paths.

    Raises:
        FileNotFoundError: There is no such config.
    """
    folder = configs_folder()
    for name in names:
        if not (folder / name).is_file():
            known = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise FileNotFoundError(f"mmbeit3 has no config {name!r}{hint}")
    return [str(folder / name) for name in names]
