"""Whether the image files of a data set are there, whole, and of the size that is expected."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from mmbeit3.datasets.checks.files import in_threads, keep
from mmbeit3.datasets.transforms.loading import LoadImageFromFile, load_image
from mmbeit3.utils import InputError
from mmbeit3.utils.image_damage import JPEG_FORMATS, DamageError, decode_jpeg, png_damage
from mmbeit3.utils.image_reading import MAX_EXIF, exif_orientation
from mmbeit3.utils.regular_files import refuse_endless
from mmbeit3.utils.similar_paths import describe_similar

MAX_EXAMPLES = 2  # with title and cure five lines
FOLLOW_STORED = (
    'if the annotations follow the stored pixels, have exif="ignore" in every LoadImageFromFile'
)
# How whole files of these formats end, but for zeros.
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
TAIL = MAX_EXIF + 64
Loader = Callable[[dict], dict]


class ImageFile(NamedTuple):
    """An image file and the width and height in pixels that the annotations give it, if any."""

    path: str
    width: int | None = None
    height: int | None = None


class Size(NamedTuple):
    """Width and height as the pipeline loads an image, and as they are stored.

    They differ where an EXIF orientation asks for swapping them.

    Attributes:
        loaded: As the pipeline loads it.
        stored: As it is in the file.
        damage: Why the file is damaged although it can be decoded, where all of it was read.
        is_turned: Whether it is turned or mirrored in a way that leaves its size the same, and
            nobody has said that this is right.
    """

    loaded: tuple[int, int]
    stored: tuple[int, int]
    damage: str | None = None
    is_turned: bool = False


def check_image_files(
    files: Sequence[ImageFile],
    source: str,
    loader: Loader | None = None,
    root: str | None = None,
) -> None:
    """Check that every image file can be read and has the size that is expected.

    See :func:`find_image_problems` for what is read. That a set of at least 500 files passed is
    kept until one of them changes.

    Args:
        files: The files and their sizes.
        source: What to call the data set in messages.
        loader: The transform that loads the images, as
            :func:`mmbeit3.datasets.transforms.loading.image_loader` finds it. Defaults to None,
            :class:`mmbeit3.datasets.LoadImageFromFile`.
        root: The folder below which the data set's names lie, for the message about a missing
            file. Defaults to None: each file's own.

    Raises:
        InputError: Files are missing, damaged, of another size, or not loaded by the transform.
    """

    def check() -> list[str]:
        turned: list[str] = []
        problems = list(find_image_problems(files, source, loader, turned=turned).values())
        if problems:
            lines = [f"{len(problems)} of the {len(files)} images of {source} cannot be used:"]
            lines += problems[:MAX_EXAMPLES]
            if len(problems) > MAX_EXAMPLES:
                lines.append(f"... and {len(problems) - MAX_EXAMPLES} more")
            hint = "Copy damaged files anew; correct the sizes, or the files, where they differ"
            raise InputError("\n  ".join(lines) + f"\n{hint}")
        return turned

    check_images_exist((file.path for file in files), source, root)
    sizes = hashlib.sha256()
    for file in files:
        sizes.update(repr(file[1:]).encode())
    kind = f"turned images {sizes.hexdigest()} {loader}"
    paths = (file.path for file in files)
    warn_of_turned(keep(kind, paths, source, check), source)


def warn_of_turned(turned: Sequence[str], source: str) -> None:
    """Warn of images whose annotations may follow the picture or the stored pixels, if any.

    Args:
        turned: The files, as :func:`find_image_problems` adds them.
        source: What to call the data set in the message.
    """
    if turned:
        print_log(describe_turned(turned, source), "current", logging.WARNING)


def describe_turned(turned: Sequence[str], source: str) -> str:
    """Say what :func:`warn_of_turned` warns of."""
    return (
        f"{source}: {len(turned)} images have an EXIF orientation that turns or mirrors them and "
        f"keeps their size, the first: {turned[0]}. Annotations are taken to follow the picture as "
        'it is displayed. Look at some; then have exif="apply" in every LoadImageFromFile of the '
        'config if that is right, or exif="ignore" if they follow the stored pixels'
    )


def check_images_exist(paths: Iterable[str], source: str, root: str | None = None) -> None:
    """Compare with one listing of each folder: a stat of every file takes minutes on a network.

    Args:
        paths: The files.
        source: What to call the data set in the message.
        root: The folder below which the data set's names lie. Defaults to None: each file's own.

    Raises:
        InputError: Files are missing.
    """
    listings: dict[str, set[str] | OSError] = {}
    missing, number = [], 0
    for path in paths:
        number += 1
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
            f"{len(missing)} of the {number} images that {source} names are missing, "
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
    loader: Loader | None = None,
    decode: bool = False,
    turned: list[str] | None = None,
) -> dict[str, str]:
    """Say what is wrong with which image file.

    Of JPEG and PNG files the header and the end are read, which finds those that were cut; a file
    that ends in an unusual way, or has another format or an EXIF orientation, is decoded by the
    transform that loads it for training.

    Args:
        files: The files and their sizes.
        source: What to call the data set beside the progress bar.
        loader: See :func:`check_image_files`. Defaults to None.
        decode: Whether to decode all files in full, which finds damage in their middle too.
            Defaults to False.
        turned: Takes the paths of good files of which nobody can tell whether the annotations
            follow their EXIF orientation: see :class:`Size`. Defaults to None.

    Returns:
        A text for the path of each bad file; it begins with the path.
    """
    find = partial(_inspect, loader=loader, decode=decode)
    found = in_threads(find, files, f"checking the images of {source}")
    problems = {}
    for file, (problem, is_turned) in zip(files, found, strict=True):
        if problem:
            problems[file.path] = problem
        elif is_turned and turned is not None and file.width is not None:
            turned.append(file.path)
    return problems


def _inspect(file: ImageFile, loader: Loader | None, decode: bool) -> tuple[str | None, bool]:
    """What is wrong with a file, if anything, and :attr:`Size.is_turned`."""
    try:
        size = read_size(file.path, loader, decode)
    except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
        return f"{file.path} {unreadable(error)}", False
    if decode and size.damage:
        return f"{file.path} is damaged: {size.damage}", False
    found, expected = size.loaded, (file.width, file.height)
    if expected in (found, (None, None)):
        return None, size.is_turned
    text = f"{file.path} is {found[0]} x {found[1]}, but expected to be {expected[0]} x "
    text += f"{expected[1]} (width x height)"
    if size.stored != size.loaded:
        text += "; its EXIF orientation swaps the sides"
        text += f": {FOLLOW_STORED}" if expected == size.stored else ""
    return text, False


def unreadable(error: Exception) -> str:
    """Say that a file cannot be read, and why, without its path."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {reason}"


def read_size(
    path: str, loader: Loader | None = None, decode: bool = False, content: bytes | None = None
) -> Size:
    """Read the size of an image, and whether the file is whole.

    Args:
        path: The file.
        loader: See :func:`check_image_files`. Defaults to None.
        decode: Whether to decode it in any case, see :func:`find_image_problems`. Defaults to
            False.
        content: What the file holds, where it lies in another one. Defaults to None: it is read.

    Raises:
        Exception: The file is damaged; Pillow's errors are of many kinds.
    """
    loader = loader or LoadImageFromFile()
    is_ours = isinstance(loader, LoadImageFromFile)
    exif = getattr(loader, "exif", None)
    damage = None
    if content is None:
        refuse_endless(path)
    with open(path, "rb") if content is None else io.BytesIO(content) as stream:
        tail = _tail(stream)
        try:
            image = Image.open(stream)
        except (UnidentifiedImageError, Image.DecompressionBombError):
            return _load_size(path, loader, content)  # it knows more, or says why not
        stored = image.size
        orientation = exif_orientation(image)
        end = ENDS.get(image.format or "")
        is_sure = end is not None and not (image.format == "PNG" and b"eXIf" in tail)
        if image.format == "PNG" and not is_sure:
            image.load()  # finds EXIF data behind the pixels
            orientation = exif_orientation(image)
        ends_well = end is not None and tail.rstrip(b"\0").endswith(end)
        if (decode or not ends_well) and (is_sure or not is_ours):
            damage = _decode(Path(path).read_bytes() if content is None else content, image)
    if is_sure and (orientation == 1 or (is_ours and exif == "ignore")):
        return Size(stored, stored, damage)
    # It turns some formats, and others not.
    loaded, _, damage_seen, _ = _load_size(path, loader, content)
    is_same = orientation in (2, 3, 4) or (orientation > 4 and stored[0] == stored[1])
    is_turned = is_same and is_ours and exif is None
    return Size(loaded, stored, damage or damage_seen, is_turned)


def _decode(content: bytes, image: Image.Image) -> str | None:
    """Decode all of an open image; returns why it is damaged although that is possible."""
    damage = None
    if image.format in JPEG_FORMATS:
        try:
            # All of a JPEG is read at an eighth of its size, too, in half of the time.
            if decode_jpeg(content, image.mode, factor=8) is not None:
                return None
        except DamageError as error:
            damage = str(error)
    image.draft(image.mode, (image.width // 8 or 1, image.height // 8 or 1))
    image.load()
    return png_damage(content) if image.format == "PNG" else damage


def _tail(stream: BinaryIO) -> bytes:
    length = stream.seek(0, os.SEEK_END)
    if not length:
        raise OSError("the file is empty (0 bytes)")
    stream.seek(-min(length, TAIL), os.SEEK_END)
    tail = stream.read()
    stream.seek(0)
    return tail


def _load_size(path: str, loader: Loader, content: bytes | None) -> Size:
    given = {} if content is None else {"img_bytes": content}
    loaded = load_image(loader, {"img_path": path, "damage": None} | given)
    height, width = loaded["img"].shape[:2]
    return Size((width, height), (width, height), loaded.get("damage"))
