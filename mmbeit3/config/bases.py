"""Configs that come with the package, as bases of the user's: ``_base_ = "mmbeit3::NAME"``."""

from __future__ import annotations

import difflib
from functools import wraps
from pathlib import Path

from mmengine.config import Config

from mmbeit3.utils.packaged_configs import PREFIX, configs_folder, packaged_configs
from mmbeit3.utils.regular_files import check_regular


def install() -> None:
    """Let mmengine find ``mmbeit3::NAME``: of other packages it knows a fixed list.

    Types in such a base are looked up in the config's ``default_scope``, as if it stood beside.
    """
    original = Config._get_cfg_path
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def find(name: str, filename: str) -> tuple[str, str | None]:
        if name.startswith(PREFIX):
            return packaged_configs(name.removeprefix(PREFIX))[0], None
        path, scope = original(name, filename)
        check_regular(path, "config")  # mmengine opens it without a look
        return path, scope

    Config._get_cfg_path = staticmethod(find)


def explain_missing(path: Path, base: Path) -> str:
    """Say how a config finds a base that is not there.

    Args:
        path: The config that names it.
        base: Where it was looked for.
    """
    known = _names()
    name = next((name for name in known if base.as_posix().endswith(f"/{name}")), None)
    close = difflib.get_close_matches("/".join(base.parts[-2:]), known, n=1)
    example = name or next(iter(close), "beit3_vitdet/NAME.py")
    return (
        f"config {path}: its _base_ {base} does not exist; a relative path starts at the folder of "
        f'the config. From any folder the configs of this package are _base_ = "{PREFIX}{example}"'
    )


def _names() -> list[str]:
    folder = configs_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
