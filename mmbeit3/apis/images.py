"""Finding image files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS


def find_images(folder: Path, exclude: Iterable[Path] = ()) -> list[Path]:
    """List the images below a folder, sorted by their path.

    Hidden files and folders are left out. Links to folders are followed, each folder once.

    Args:
        folder (Path): The folder, or one image file.
        exclude (Iterable): Folders to stay out of. Defaults to none.

    Returns:
        list[Path]: The paths, each beginning with ``folder``; never empty.

    Raises:
        InputError: If there is no such folder or no image in it.
    """
    known = " ".join(extension.lstrip(".") for extension in EXTENSIONS)
    if folder.is_file():
        if folder.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{folder} is not an image: its extension is none of {known}")
        return [folder]
    if not folder.is_dir():
        raise InputError(f"no such folder or image: {folder}")
    images = [path for path in _files(folder, exclude) if path.suffix.lower() in EXTENSIONS]
    if not images:
        raise InputError(f"no images in {folder} or below: looked for files ending in {known}")
    return sorted(images)


def _files(folder: Path, exclude: Iterable[Path]) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden."""
    seen = {os.path.realpath(path) for path in exclude}
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))
