"""The config as a training writes it into its work dir."""

from __future__ import annotations

import zlib
from pathlib import Path

from mmengine.config import Config

HEAD = "# as trained, bases and variables filled in; CRC-32 of what follows:"


def dump_text(cfg: Config) -> str:
    """Return a config as the text of a file; a ``.py`` file tells whether it was edited since."""
    text = cfg.dump()
    if cfg.filename and not str(cfg.filename).endswith(".py"):
        return text
    return f"{HEAD} {zlib.crc32(text.encode()):08x}\n{text}"


def is_dump(path: Path) -> bool:
    """Tell whether a file is what :func:`dump_text` gave, and as it was.

    All that nothing reads in it are variables that have been used already.
    """
    head, text = _parts(path)
    return head == f"{HEAD} {zlib.crc32(text.encode()):08x}"


def is_edited_dump(path: Path) -> bool:
    """Tell whether a file is what :func:`dump_text` gave, with changes."""
    return _parts(path)[0].startswith(HEAD) and not is_dump(path)


def _parts(path: Path) -> tuple[str, str]:
    """The first line and the others, both empty if the file cannot be read."""
    try:
        head, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeError):
        return "", ""
    return head, text
