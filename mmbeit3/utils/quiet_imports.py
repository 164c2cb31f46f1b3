"""Keeps the toolboxes from printing, when they are imported, which other packages they miss."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

from mmbeit3.utils.import_contexts import Context, import_within

MODULES = {
    "mmdet.datasets",
    "mmdet.datasets.transforms",
    "mmseg.datasets",
    "mmseg.datasets.transforms",
}
PRINTED = "Could not import OneDL"


def install() -> None:
    """See to it that these imports are quiet from now on."""
    import_within(_choose)


def _choose(name: str) -> Context | None:
    return _quietly if name in MODULES else None


@contextmanager
def _quietly(module: ModuleType) -> Iterator[None]:
    with redirect_stdout(_WithoutLine(sys.stdout)):
        yield


class _WithoutLine:
    """A text stream that drops one line; ``print`` writes the line and its end one by one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        dropped, self._dropped = self._dropped, text.startswith(PRINTED)
        if not self._dropped and not (dropped and text == "\n"):
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
