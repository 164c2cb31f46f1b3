"""What stands in the place of a file that a program is about to read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


TEXTS = {
    "nothing": b"",
    "zeros": bytes(100),
    "binary": bytes(range(256)),
    "a long line": b"x" * 5000,
    "nesting": b"[" * 100_000,
    "a long number": b"9" * 10_000,
    "another shape": b'{"task": [1], "versions": 7}',
    "a list": b"[1, null]",
    "NaN": b"NaN",
    "another encoding": "iter_1.pth".encode("utf-16"),
    "two lines": b"iter_2.pth\niter_1.pth",
}
SPECIAL: dict[str, Callable[[Path], None]] = {
    **{name: lambda path, text=text: path.write_bytes(text) for name, text in TEXTS.items()},
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a huge file": _huge,
}
