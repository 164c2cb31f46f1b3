"""Small pictures of files, read in threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmbeit3.inference.inferencer import default_workers
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import read_image
from mmbeit3.visualization.picture_page import Figure, thumbnail


def read_figures(
    captions: Mapping[str, Sequence[tuple[Path | None, str]]],
) -> dict[str, list[Figure]]:
    """Read the pictures of a page; a file that several sections show is read once.

    Args:
        captions (Mapping): File and caption of each picture, by the section that they are for.

    Returns:
        dict: The pictures; a file that cannot be read any more is left out.
    """
    jpegs = read_thumbnails(path for pairs in captions.values() for path, _ in pairs)
    return {
        section: [Figure((jpegs[path],), caption) for path, caption in pairs if path in jpegs]
        for section, pairs in captions.items()
    }


def read_thumbnails(files: Iterable[Path | None]) -> dict[Path | None, bytes]:
    """Read small pictures of files; one that cannot be read any more is left out."""
    wanted = {path for path in files if path is not None}
    with ThreadPoolExecutor(default_workers()) as pool:
        read = zip(wanted, pool.map(_read, wanted), strict=True)
        return {path: jpeg for path, jpeg in read if jpeg is not None}


def _read(path: Path) -> bytes | None:
    try:
        return thumbnail(read_image(path))
    except InputError:
        return None
