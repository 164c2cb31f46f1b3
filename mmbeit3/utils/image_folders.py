"""Finding image files in folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import EXTENSIONS
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import read_small_json

#: Folders of pictures that a run writes, by the file beside them that says so.
WRITTEN = {"summary.json": ("overlays", "labels"), "report.json": ("samples",)}


def check_exists(folder: Path) -> None:
    """Make sure that there is something to look for images in.

    Args:
        folder (Path): The folder, or one image file.

    Raises:
        InputError: There is no such folder or image.
    """
    if not (folder.is_dir() or folder.is_file()):
        raise InputError(
            f"no such folder or image: {folder}; expected a folder, which is searched recursively, "
            f"or one image{describe_similar(str(folder))}"
        )


def find_images(
    folder: Path,
    exclude: Iterable[Path] = (),
    on_unreadable: Callable[[OSError], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
) -> list[Path]:
    """List the images below a folder, sorted by their path.

    Hidden files and folders are left out, and pictures that an earlier inference or data check has
    written. Links to folders are followed, each folder once.

    Args:
        folder (Path): The folder, or one image file.
        exclude (Iterable): Folders to stay out of. Defaults to none.
        on_unreadable (Callable, optional): Called for each folder that cannot be read. Defaults to
            None: the first of them is an error.
        on_written (Callable, optional): Called for each folder of pictures that a run has written.
            Defaults to None.

    Returns:
        list[Path]: The paths, each beginning with ``folder``; never empty.

    Raises:
        InputError: If there is no such folder, no image in it, or a folder cannot be read.
    """
    known = " ".join(extension.lstrip(".") for extension in EXTENSIONS)
    if folder.is_file():
        if folder.suffix.lower() not in EXTENSIONS:
            raise InputError(f"{folder} is not an image: its extension is none of {known}")
        return [folder]
    check_exists(folder)
    unreadable: list[OSError] = []
    written: list[Path] = []
    files = _files(folder, exclude, unreadable.append, written.append)
    images = [path for path in files if path.suffix.lower() in EXTENSIONS]
    for error in unreadable:
        if on_unreadable is None or not images:
            raise InputError(
                f"the folder {error.filename} cannot be read: {error.strerror or error}"
            )
        on_unreadable(error)
    if on_written is not None:
        for path in written:
            on_written(path)
    if not images:
        names = ", ".join(map(str, written))
        but = f"; {names}: pictures that an earlier run wrote, left out" if written else ""
        raise InputError(f"no images in {folder} or below: looked for files ending in {known}{but}")
    return sorted(images)


def _files(
    folder: Path,
    exclude: Iterable[Path],
    on_unreadable: Callable[[OSError], None],
    on_written: Callable[[Path], None],
) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden."""
    seen = {os.path.realpath(path) for path in exclude}
    for root, folders, files in os.walk(folder, onerror=on_unreadable, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in _written(root, folders, files):
            folders.remove(name)
            if os.path.realpath(Path(root, name)) not in seen:
                on_written(Path(root, name))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))


def _written(root: str, folders: list[str], files: list[str]) -> list[str]:
    """The folders of pictures in a folder that a file beside them says a run has written."""
    found = []
    for file, names in WRITTEN.items():
        there = [name for name in names if name in folders]
        if there and file in files:
            found += [name for name in there if _says(Path(root, file), name)]
    return found


def _says(file: Path, name: str) -> bool:
    """Whether an inference or a data check wrote a file and, beside it, a folder of this name."""
    try:
        content = read_small_json(file)
        if name == "samples":
            return bool(content) and all({"place", "pictures"} <= each.keys() for each in content)
        maps = name != "labels" or content["task"] == "segmentation"
        return maps and "task" in content and "mmbeit3" in content["versions"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
