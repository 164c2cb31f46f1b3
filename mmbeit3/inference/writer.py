"""What a task does with predictions: write them, add them up, and say what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmbeit3.inference.image_list import Source


@dataclass
class Written:
    """An image that is done, its size, and what is wrong with its file.

    All but ``source`` is what JSON can hold, or arrays, which a journal makes lists of.
    """

    source: Source
    height: int
    width: int
    damage: str | None = field(default=None, kw_only=True)


class ResultWriter(ABC):
    """The results of a run.

    Args:
        out_dir (Path): Where they go.
    """

    #: What the summary calls the task.
    task: ClassVar[str]
    #: The package whose models solve it.
    library: ClassVar[str]
    #: What is written, besides the summary and the pictures.
    files: str
    #: Folder and suffix of the files, besides its picture, that are written for each image, by the
    #: name of their kind.
    further: ClassVar[dict[str, tuple[str, str]]] = {}
    #: Files that hold results of all images.
    run_files: tuple[str, ...] = ()
    #: Whether a picture of each image is written.
    draws: ClassVar[bool] = True
    #: What a run counts.
    unit: ClassVar[str] = "images"
    #: What :meth:`write` returns.
    written: ClassVar[type[Written]]

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir

    def resume(self, out_dir: Path) -> None:
        """Take over what an earlier run has left in its folder, before the first image."""
        return

    def finish(self, out_dir: Path, summary: dict[str, Any]) -> None:
        """Make more of results that have their places in ``out_dir``, of a run to its end."""
        return

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep files open for a run, and close them in whatever way it ends."""
        yield

    @abstractmethod
    def write(self, found: Any) -> Written:
        """Write what belongs to one image alone. Called from threads."""

    @abstractmethod
    def add(self, written: Any) -> dict[str, Any]:
        """Count one image; called in order, from one thread.

        Returns:
            dict: What the summary says of this image, besides its name and size.
        """

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return what was counted, for the summary."""

    @staticmethod
    @abstractmethod
    def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Say what a summary holds of the classes, in rows of a table."""
