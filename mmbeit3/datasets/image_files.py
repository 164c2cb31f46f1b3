"""Whether the image files of a data set are there, whole, and of the size that is expected."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO, NamedTuple

import mmcv
from PIL import Image, UnidentifiedImageError

from mmbeit3.datasets.file_checks import in_threads, keep
from mmbeit3.utils import InputError
from mmbeit3.utils.similar_paths import describe_similar

MAX_EXAMPLES = 10
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap sides
# How whole files of these formats end, but for zeros.
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
TAIL = 64


class ImageFile(NamedTuple):
    """An image file and the width and height in pixels that the annotations give it, if any."""

    path: str
    width: int | None = None
    height: int | None = None


class Size(NamedTuple):
    """Width and height as mmcv loads an image, and as they are stored.

    They differ where an EXIF orientation asks for swapping them.
    """

    loaded: tuple[int, int]
    stored: tuple[int, int]


def check_image_files(
    files: Sequence[ImageFile],
    source: str,
    ignore_orientation: bool = False,
    root: str | None = None,
) -> None:
    """Check that every image file can be read and has the size that is expected.

    See :func:`find_image_problems` for what is read. That a set of at least 500 files passed is
    kept until one of them changes.

    Args:
        files: The files and their sizes.
        source: What to call the data set in messages.
        ignore_orientation: Whether images are loaded without their EXIF orientation, as mmcv does
            with ``color_type='color_ignore_orientation'``. Defaults to False.
        root: The folder below which the data set's names lie, for the message about a missing
            file. Defaults to None: each file's own.

    Raises:
        InputError: Files are missing, damaged, or of another size.
    """

    def check() -> bool:
        problems = list(find_image_problems(files, source, ignore_orientation).values())
        if problems:
            lines = [f"{len(problems)} of the {len(files)} images of {source} cannot be used:"]
            lines += problems[:MAX_EXAMPLES]
            if len(problems) > MAX_EXAMPLES:
                lines.append(f"... and {len(problems) - MAX_EXAMPLES} more")
            hint = "Copy damaged files anew; correct the sizes, or the files, where they differ"
            raise InputError("\n  ".join(lines) + f"\n{hint}")
        return True

    check_images_exist([file.path for file in files], source, root)
    sizes = hashlib.sha256(repr([file[1:] for file in files]).encode()).hexdigest()
    kind = f"images {sizes} {ignore_orientation}"
    keep(kind, [file.path for file in files], source, check)


def check_images_exist(paths: Sequence[str], source: str, root: str | None = None) -> None:
    """Compare with one listing of each folder: a stat of every file takes minutes on a network.

    Args:
        paths: The files.
        source: What to call the data set in the message.
        root: The folder below which the data set's names lie. Defaults to None: each file's own.

    Raises:
        InputError: Files are missing.
    """
    listings: dict[str, set[str] | OSError] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _names_in(folder)
        names = listings[folder]
        if isinstance(names, OSError) or name not in names:
            missing.append(path)
    if missing:
        folder, name = os.path.split(missing[0])
        names = listings[folder]
        state = f" ({names.strerror})" if isinstance(names, OSError) else ""
        similar = describe_similar(missing[0], root)
        cure = "Correct the names in the annotation file, or " if similar else "Check "
        cure += "data_root and data_prefix"
        raise InputError(
            f"{len(missing)} of the {len(paths)} images that {source} names are missing, "
            f"the first: {name} in {folder}{state}{similar}. {cure}"
        )


def _names_in(folder: str) -> set[str] | OSError:
    try:
        return set(os.listdir(folder or "."))
    except OSError as error:
        return error


def find_image_problems(
    files: Sequence[ImageFile],
    source: str,
    ignore_orientation: bool = False,
    decode: bool = False,
) -> dict[str, str]:
    """Say what is wrong with which image file.

    Of JPEG and PNG files the header and the end are read, which finds those that were cut; a file
    that ends in an unusual way, or has another format, is decoded.

    Args:
        files: The files and their sizes.
        source: What to call the data set beside the progress bar.
        ignore_orientation: See :func:`check_image_files`. Defaults to False.
        decode: Whether to decode all files in full, which finds damage in their middle too.
            Defaults to False.

    Returns:
        A text for the path of each bad file; it begins with the path.
    """
    find = partial(_problem, ignore_orientation=ignore_orientation, decode=decode)
    found = in_threads(find, files, f"checking the images of {source}")
    return {file.path: text for file, text in zip(files, found, strict=True) if text}


def _problem(file: ImageFile, ignore_orientation: bool, decode: bool) -> str | None:
    try:
        size = read_size(file.path, decode)
    except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
        return f"{file.path} {unreadable(error)}"
    found = size.stored if ignore_orientation else size.loaded
    expected = (file.width, file.height)
    if expected in (found, (None, None)):
        return None
    text = f"{file.path} is {found[0]} x {found[1]}, but expected to be {expected[0]} x "
    text += f"{expected[1]} (width x height)"
    if size.stored != size.loaded:
        text += "; its EXIF orientation swaps the sides"
    return text


def unreadable(error: Exception) -> str:
    """Say that a file cannot be read, and why, without its path."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "it is not an image, or damaged from the start"
    return f"cannot be read: {reason}"


def read_size(path: str, decode: bool = False) -> Size:
    """Read the size of an image, and whether the file is whole.

    Args:
        path: The file.
        decode: Whether to decode it in any case, see :func:`find_image_problems`. Defaults to
            False.

    Raises:
        Exception: The file is damaged; Pillow's errors are of many kinds.
    """
    with open(path, "rb") as stream:
        tail = _tail(stream)
        try:
            image = Image.open(stream)
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            return _size_by_mmcv(path, error)  # OpenCV knows some kinds of TIFF that Pillow doesn't
        stored = image.size
        may_be_turned = _may_be_turned(image)
        end = ENDS.get(image.format)
        if decode or end is None or not tail.rstrip(b"\0").endswith(end):
            # All of a JPEG is read at an eighth of its size, too, in half of the time.
            image.draft(image.mode, (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
    if not may_be_turned:
        return Size(stored, stored)
    # In which formats it is followed depends on the versions of OpenCV and Pillow.
    return Size(_size_by_mmcv(path).loaded, stored)


def _may_be_turned(image: Image.Image) -> bool:
    try:
        # PNG's own getexif decodes the image to look for what may follow the pixels.
        return Image.Image.getexif(image).get(ORIENTATION) in QUARTER_TURNS
    except Exception:  # of damaged EXIF data OpenCV makes what it likes
        return True


def _tail(stream: BinaryIO) -> bytes:
    length = stream.seek(0, os.SEEK_END)
    if not length:
        raise OSError("the file is empty (0 bytes)")
    stream.seek(-min(length, TAIL), os.SEEK_END)
    tail = stream.read()
    stream.seek(0)
    return tail


def _size_by_mmcv(path: str, error: Exception | None = None) -> Size:
    pixels = mmcv.imread(path)
    if pixels is None:
        raise error or OSError("OpenCV cannot decode it")
    height, width = pixels.shape[:2]
    return Size((width, height), (width, height))
