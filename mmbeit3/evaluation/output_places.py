"""Where what is written of an image goes: one file for each image, and never one of the inputs."""

from __future__ import annotations

from collections.abc import Iterable
from os import path as osp
from pathlib import Path
from typing import Any

from mmbeit3.utils import InputError


def output_file(
    sample: Any, folder: str | Path, suffix: str, image_root: str | None = None
) -> Path:
    """Name the file for an image: the image's path below ``image_root``, with another suffix.

    Args:
        sample: A dict or a data sample. Holds ``img_path``, and ``seg_map_path`` where there is a
            label map.
        folder: Where the file goes.
        suffix: How its name ends, such as '.png'.
        image_root: Folder of the images. Defaults to None: the image's name alone is kept, as it
            is for an image elsewhere.

    Returns:
        The path; its folder may not exist yet.

    Raises:
        InputError: The file is the image itself or its label map.
    """
    image = Path(osp.abspath(sample.get("img_path")))
    root = image.parent if image_root is None else Path(osp.abspath(image_root))
    relative = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    file = Path(folder, relative.with_name(relative.stem + suffix))
    for path in (sample.get("img_path"), sample.get("seg_map_path")):
        if path and osp.realpath(file) == osp.realpath(path):
            raise InputError(
                f"{path} is part of the data, and results in {folder} would overwrite it; choose "
                "another folder"
            )
    return file


def check_output_files(
    images: Iterable[str], folder: str | Path, suffix: str, image_root: str | None = None
) -> None:
    """Make sure that every image gets a file of its own.

    Args:
        images: Their paths; one that is there twice is one image.
        folder: Where the files go.
        suffix: How their names end, such as '.png'.
        image_root: Folder of the images. Defaults to None: their names alone are kept.

    Raises:
        InputError: Two images would have one file.
    """
    taken: dict[Path, str] = {}
    for image in images:
        file = output_file({"img_path": image}, folder, suffix, image_root)
        other = taken.setdefault(file, image)
        if osp.abspath(other) != osp.abspath(image):
            raise InputError(
                f"the results for {other} and {image} would both be {file}: rename one of the "
                "images, or test their data sets one by one with folders of their own"
            )
