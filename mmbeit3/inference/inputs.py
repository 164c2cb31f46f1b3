"""What a model is called with: files, arrays, addresses, folders, videos; as sources of images."""

from __future__ import annotations

import itertools
import logging
import os
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeGuard
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmbeit3.checkpoint.fetching import without_secrets
from mmbeit3.datasets.transforms.loading import LoadImageFromNDArray
from mmbeit3.datasets.transforms.multiband import LoadMultibandImage
from mmbeit3.inference.image_list import Source
from mmbeit3.inference.result import check_channels
from mmbeit3.utils import InputError
from mmbeit3.utils.image_folders import find_images
from mmbeit3.utils.image_reading import array_to_bgr, picture_to_bgr
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.text_files import printable

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"),
)
ADDRESSES = ("http://", "https://")
URL_TIMEOUT = 30.0  # seconds without a byte
URL_MAX_BYTES = 256 * 2**20


@dataclass
class Inputs:
    """The images of a call.

    Attributes:
        sources (Iterator[Source]): The images.
        is_single (bool): Whether it was one image, not a list of them.
        is_stream (bool): Whether nobody knows their number, as that of a video.
        is_live (bool): Whether they come from a camera, so that none may wait.
    """

    sources: Iterator[Source]
    is_single: bool = False
    is_stream: bool = False
    is_live: bool = False


@dataclass(frozen=True, eq=False)
class PixelSource(Source):
    """An image in memory.

    Args:
        pixels (np.ndarray | Image.Image): The image.
        channels (str): The order of an array's channels, 'bgr' or 'rgb'. Defaults to 'bgr'.
    """

    pixels: Any = None
    channels: str = "bgr"
    is_file: ClassVar[bool] = False

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Make a sample of the pixels; see :meth:`Source.load`."""
        if isinstance(loader, LoadMultibandImage):
            sample = loader({"img": self.pixels, "img_id": self.image_id})
            return sample | {"img_path": self.location}
        if isinstance(self.pixels, Image.Image):
            image = picture_to_bgr(self.pixels)
        else:
            image = array_to_bgr(self.pixels, self.channels)
        sample = LoadImageFromNDArray()({"img": image, "img_id": self.image_id})
        if getattr(loader, "to_float32", False):
            sample["img"] = image.astype(np.float32)
        return sample | {"img_path": self.location}


@dataclass(frozen=True, eq=False)
class AddressSource(Source):
    """An image on a web server.

    Args:
        address (str): Where.
    """

    address: str = ""
    is_file: ClassVar[bool] = False

    @property
    def location(self) -> str:
        """The address, without a password in it."""
        return self.file_name

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Download the file and read it; see :meth:`Source.load`."""
        content = download(self.address, URL_MAX_BYTES, URL_TIMEOUT)
        return _load_content(self, content, unquote(urlsplit(self.address).path), loader)


@dataclass(frozen=True, eq=False)
class UploadSource(Source):
    """A file that somebody has sent.

    Args:
        content (bytes): What is in it.
    """

    content: bytes = b""
    is_file: ClassVar[bool] = False

    @property
    def location(self) -> str:
        """Its name, which no file here need have."""
        return self.file_name

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read the image; see :meth:`Source.load`."""
        return _load_content(self, self.content, self.file_name, loader)


@dataclass(frozen=True, eq=False)
class UnknownSource(Source):
    """Something in a list that is no image.

    Args:
        problem (str): What it is.
    """

    problem: str = ""
    is_file: ClassVar[bool] = False

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Refuse it."""
        raise InputError(self.problem)


def read_inputs(given: Any, channels: str = "bgr", stride: int = 1) -> Inputs:
    """Find the images in what a model is called with.

    Args:
        given (Any): A path or address of an image; an array (H, W), (H, W, 3) or (H, W, 4); a
            PIL image; a list or another iterable of these; a folder; a video file; or the number of
            a camera.
        channels (str): The order of an array's channels, 'bgr' or 'rgb'. Defaults to 'bgr'.
        stride (int): Of a video, take each such frame. Defaults to 1, all.

    Returns:
        Inputs: The images. What is wrong with one of several is found out when it is loaded.

    Raises:
        InputError: It is nothing of these, the file or folder is absent or holds no images, or the
            video or camera cannot be opened.
    """
    check_channels(channels)
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise InputError(f"stride is {stride!r}; expected a whole number of at least 1")
    if isinstance(given, int) and not isinstance(given, bool):
        return Inputs(_frames(given, stride), is_stream=True, is_live=True)
    if isinstance(given, (str, os.PathLike)) and not _is_address(given):
        path = Path(given).expanduser()
        if path.is_dir():
            files = find_images(path)
            names = [file.relative_to(path).as_posix() for file in files]
            pairs = enumerate(zip(files, names, strict=True), 1)
            return Inputs(Source(number, file, name, None) for number, (file, name) in pairs)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            check_regular(path, "video")
            return Inputs(_frames(path, stride), is_stream=True)
    single = _source(given, 1, channels)
    if not isinstance(single, UnknownSource):
        return Inputs(iter([single]), is_single=True)
    if isinstance(given, np.ndarray) or not isinstance(given, Iterable) or _is_of_bytes(given):
        raise InputError(single.problem)
    sources = (_source(item, number, channels) for number, item in enumerate(given, 1))
    return Inputs(sources, is_stream=not isinstance(given, (list, tuple)))


def single_source(given: Any, channels: str = "bgr") -> Source:
    """Find the one image that something is; see :func:`read_inputs`.

    Raises:
        InputError: It is none, or holds several.
    """
    inputs = read_inputs(given, channels)
    if not inputs.is_single:
        raise InputError(f"{type(given).__name__} holds several images; give one")
    [source] = inputs.sources
    return source


def _load_content(
    source: Source, content: bytes, name: str, loader: Callable[[dict], dict]
) -> dict[str, Any]:
    """Have the loader, which reads files, read a file's content; of its name the suffix counts."""
    with TemporaryDirectory() as folder:
        suffix = PurePosixPath(name).suffix
        path = Path(folder, "image" + (suffix if suffix.isascii() else ""))
        path.write_bytes(content)
        file = Source(source.image_id, path, source.file_name, None)
        return file.load(loader) | {"img_path": source.location}


def _source(item: Any, number: int, channels: str) -> Source:
    """The image that an item of a list is."""
    name = f"image {number}"
    if isinstance(item, (str, os.PathLike)):
        if _is_address(item):
            return AddressSource(number, None, without_secrets(item), None, address=item)
        path = Path(item).expanduser()
        if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
            kind = "folder" if path.is_dir() else "video"
            problem = f"a {kind} in a list of images; give it alone"
            return UnknownSource(number, path, str(item), None, problem=problem)
        return Source(number, path, str(item), None)
    if isinstance(item, np.ndarray) and item.ndim != 4:
        return PixelSource(number, None, name, None, pixels=item, channels=channels)
    if isinstance(item, Image.Image):
        location = getattr(item, "filename", None) or None
        name = str(location) if location else name
        return PixelSource(number, Path(location) if location else None, name, None, pixels=item)
    return UnknownSource(number, None, name, None, problem=_problem(item))


def _problem(item: Any) -> str:
    """Say what an item is that is no image."""
    expected = "expected a path, an address, an array (H, W, 3) or a PIL image"
    if item is None:
        return f"the image is None, which cv2.imread returns for what it cannot read; {expected}"
    if isinstance(item, np.ndarray):
        return f"an array of shape {item.shape}; expected (H, W, 3): give a list of images"
    if hasattr(item, "detach"):
        return f"the image is a tensor; {expected}: x.permute(1, 2, 0).cpu().numpy()"
    return f"the image is of type {type(item).__name__}; {expected}"


def _is_address(given: Any) -> TypeGuard[str]:
    return isinstance(given, str) and given.lower().startswith(ADDRESSES)


def _is_of_bytes(given: Any) -> bool:
    """Whether it is iterable, but not a list of images: bytes, a tensor, a mapping."""
    return isinstance(given, (bytes, bytearray, dict)) or hasattr(given, "detach")


def _frames(target: Path | int, stride: int) -> Iterator[Source]:
    """Open a video or a camera; its frames are read as they are taken."""
    if isinstance(target, Path) and not target.is_file():
        raise InputError(f"{target} does not exist; expected a video file")
    name = str(target) if isinstance(target, Path) else f"camera {target}"
    capture = cv2.VideoCapture(str(target) if isinstance(target, Path) else target)
    if not capture.isOpened():
        capture.release()
        kind = "a video that OpenCV can read" if isinstance(target, Path) else "one that is there"
        raise InputError(f"{name} cannot be opened; expected {kind}")
    return _read_frames(capture, target if isinstance(target, Path) else None, name, stride)


def _read_frames(
    capture: cv2.VideoCapture, path: Path | None, name: str, stride: int
) -> Iterator[Source]:
    announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        for index in itertools.count():
            if not capture.grab():
                break
            if index % stride:
                continue
            readable, pixels = capture.retrieve()
            label = f"{name}, frame {index}"
            if readable:
                yield PixelSource(index + 1, path, label, None, frame=index, pixels=pixels)
            else:
                problem = "the frame cannot be decoded"
                yield UnknownSource(index + 1, path, label, None, frame=index, problem=problem)
    finally:
        capture.release()
    if index == 0:
        raise InputError(f"{name} has no frame that OpenCV can decode")
    if index < announced:
        text = f"{name} is damaged: {index} of the {announced} frames that it announces were read"
        print_log(printable(text), "current", logging.WARNING)


def download(address: str, limit: int, timeout: float) -> bytes:
    """Download a file into memory.

    Args:
        address (str): ``http://...`` or ``https://...``.
        limit (int): The largest number of bytes that is taken.
        timeout (float): Seconds without a byte after which it is given up.

    Returns:
        bytes: The content.

    Raises:
        InputError: It cannot be downloaded or is too large; the message is the reason.
    """
    # Blanks and letters beyond ASCII may stand in an address that a user typed.
    request = Request(quote(address, safe=string.punctuation), headers={"User-Agent": "mmbeit3"})
    try:
        with urlopen(request, timeout=timeout) as answer:
            content = answer.read(limit + 1)
            announced = answer.headers.get("Content-Length")
    except HTTPError as error:
        raise InputError(f"the server says {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError, UnicodeError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise InputError(f"could not be downloaded ({reason})") from error
    if len(content) > limit:
        raise InputError(f"more than {limit:,} bytes; download it and give the path of the file")
    if announced and announced.isdecimal() and len(content) < int(announced):
        raise InputError(f"the download ended after {len(content):,} of {int(announced):,} bytes")
    return content
