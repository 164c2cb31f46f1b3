"""Images of a run, and the names of the files that are written for each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mmbeit3.datasets.transforms.loading import load_image
from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import find_images

OVERLAYS = "overlays"


@dataclass(frozen=True)
class Source:
    """An image file, of a folder for example.

    Args:
        image_id (int): Its number in the run, from 1: in a folder, its place when sorted.
        path (Path, optional): The file; None if the image is none.
        file_name (str): What to call it: the path below the folder, with forward slashes.
        overlay (str, optional): Where its picture goes, below the output folder.
        further (Mapping[str, str]): Where the other files that its task writes for it go, by the
            name of their kind. Defaults to none.
        frame (int, optional): Its number in a video, from 0. Defaults to None.
    """

    image_id: int
    path: Path | None
    file_name: str
    overlay: str | None
    further: Mapping[str, str] = field(default_factory=dict)
    frame: int | None = None
    #: Whether ``path`` is a file of this image alone, which may be read by window.
    is_file: ClassVar[bool] = True

    @property
    def location(self) -> str | None:
        """The path of the file as text, or its address; None if there is none."""
        return None if self.path is None else str(self.path)

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read the image.

        Args:
            loader (Callable): What reads files: the transform of a test pipeline.

        Returns:
            dict: A sample with ``img``, ``img_id``, ``img_path``, shapes and maybe ``damage``.

        Raises:
            InputError: It cannot be read; the message is the reason, without the name.
        """
        names = {"img_id": self.image_id, "img_path": str(self.path), "damage": None}
        return load_image(loader, names)

    @property
    def files(self) -> list[str]:
        """Those that are written for the image."""
        return [name for name in (self.overlay, *self.further.values()) if name]


@dataclass
class NotListed:
    """What of a folder is not among its images.

    Attributes:
        unreadable: Folders that cannot be read, ``file_name`` and ``reason`` of each.
        written: Folders of pictures that earlier runs have written.
    """

    unreadable: list[dict[str, str]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


def list_sources(
    folder: Path,
    out_dir: Path,
    overlays: bool,
    further: Mapping[str, tuple[str, str]] | None = None,
    not_listed: NotListed | None = None,
) -> list[Source]:
    """List the images of a folder, or the one image, and name what is written for each.

    What earlier runs wrote is not taken for input. ``a.jpg`` and ``a.png`` get ``overlays/a.jpg``
    and ``overlays/a.png.jpg``, as ``a.png`` does beside a folder ``a.jpg``; other files are named
    alike.

    Args:
        folder (Path): Folder of images, or one image.
        out_dir (Path): Where results go.
        overlays (bool): Whether pictures are written, below ``overlays/``.
        further (Mapping, optional): Folder and suffix of the other files that are written for each
            image, by the name of their kind. Defaults to None.
        not_listed (NotListed, optional): Takes what is left out. Defaults to None: a folder that
            cannot be read is an error.

    Returns:
        list[Source]: The images; never empty.

    Raises:
        InputError: If there are no images, they lie where the results would be written, or a
            folder cannot be read.
    """
    further = further or {}
    written = [out_dir / name for name in (OVERLAYS, *(folder for folder, _ in further.values()))]
    check_outside(folder, written)
    root = image_root(folder)
    skipped = not_listed or NotListed()

    def unreadable(error: OSError) -> None:
        name = Path(os.path.relpath(error.filename, root)).as_posix() + "/"
        reason = f"the folder cannot be read: {error.strerror or error}"
        skipped.unreadable.append({"file_name": name, "reason": reason})

    def made(path: Path) -> None:
        skipped.written.append(path.relative_to(root).as_posix() + "/")

    calls = () if not_listed is None else (unreadable, made)
    files = [path.relative_to(root) for path in find_images(folder, written, *calls)]
    pictures = name_files(files, OVERLAYS, ".jpg") if overlays else [None] * len(files)
    others = {kind: name_files(files, *place) for kind, place in further.items()}
    return [
        Source(
            index + 1,
            root / file,
            file.as_posix(),
            pictures[index],
            {kind: names[index] for kind, names in others.items()},
        )
        for index, file in enumerate(files)
    ]


def check_outside(folder: Path, written: Sequence[Path]) -> None:
    """Raise an InputError for images that lie in a folder where results are written."""
    for place in written:
        if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(place)):
            raise InputError(
                f"{folder} lies in {place}, where results are written: choose another out_dir"
            )


def image_root(folder: Path) -> Path:
    """The folder of images that a folder, or an image, stands for."""
    return folder if folder.is_dir() else folder.parent


def name_files(files: Sequence[Path], folder: str, suffix: str) -> list[str]:
    """Give each file a name with this suffix of its own, below ``folder``."""
    taken = {parent.as_posix().lower() for file in files for parent in file.parents}
    return [str(PurePosixPath(folder, _free_name(file, suffix, taken))) for file in files]


def _free_name(file: Path, suffix: str, taken: set[str]) -> str:
    """Find a free name for a file; case does not count, as on some file systems."""
    further = (f"{file.name}.{number}{suffix}" for number in itertools.count(2))
    for name in itertools.chain((file.stem + suffix, file.name + suffix), further):
        free = file.with_name(name).as_posix()
        if free.lower() not in taken:
            taken.add(free.lower())
            return free
    raise AssertionError("unreachable: the names never end")
