"""What can be said of a checkpoint's file at once, without torch."""

from __future__ import annotations

from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.similar_paths import similar_files


def check_file(path: Path, name: str) -> None:
    """Make sure that a file is there and not empty.

    Args:
        path (Path): The file.
        name (str): What to call it.

    Raises:
        InputError: It is absent, a folder, empty, or no file of a disk.
    """
    check_regular(path, "checkpoint")
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*") if file.suffix in (".pth", ".pt"))
        hint = f"; give a file, such as {path / inside[-1]}" if inside else ""
        raise InputError(f"checkpoint {name} is a folder{hint}")
    if not path.is_file():
        raise InputError(f"checkpoint {name} does not exist{similar_files(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"checkpoint {name} is empty (0 bytes): the download or copy failed")
