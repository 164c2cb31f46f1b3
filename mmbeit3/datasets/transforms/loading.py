"""Loading the image of a sample."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS

from mmbeit3.registry import TRANSFORMS
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import decode_image, read_image, to_bgr
from mmbeit3.utils.said_once import SaidOnce
from mmbeit3.utils.text_files import printable

NOT_FROM_FILE = "LoadImageFromNDArray"
UNREADABLE = "cannot be read: "
EXIF = (None, "apply", "ignore")


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Load an image of any format as a person sees it.

    The rule is that of :func:`mmbeit3.utils.image_reading.decode_image`.
    ``mmcv.LoadImageFromFile`` ignores transparency, drops the lower bits of 16-bit images, and
    turns by EXIF in some formats only. Plain JPEG and PNG files give the same pixels in both.

    Configs name it as ``dict(type="LoadImageFromFile", _scope_="mmbeit3")``: the inferencers of
    mmdet and mmseg look for a transform of exactly this type, and put another in its place, which
    they then find in this scope, too: :class:`LoadImageFromNDArray`.

    Of a damaged JPEG or PNG file that gives pixels nevertheless, these are used, and a warning
    names it: once, whatever the number of epochs.

    Required key: ``img_path``; where there is ``img_bytes``, the content of a file, it is decoded,
    and the path is but its name. Added keys: ``img`` (H, W, 3), BGR, uint8; ``img_shape`` and
    ``ori_shape`` (H, W). A key ``damage`` takes the reason why a file is damaged, or None; where it
    is there, nothing is said.

    Args:
        backend_args (dict, optional): Arguments of mmengine's file backend. Defaults to None.
        exif (str, optional): 'apply' turns the image by its EXIF orientation, 'ignore' leaves the
            pixels as they are stored: say which of them the annotations follow. Defaults to None,
            as 'apply', and the check of the data warns where nobody can tell.
    """

    def __init__(self, backend_args: dict[str, Any] | None = None, exif: str | None = None) -> None:
        if exif not in EXIF:
            raise InputError(f"LoadImageFromFile has exif={exif!r}, expected one of {EXIF}")
        self.backend_args = backend_args
        self.exif = exif
        self._said = SaidOnce()

    def transform(self, results: dict) -> dict:
        """Read the image.

        Raises:
            InputError: If it cannot be read; the message begins with the path.
        """
        path, content = results["img_path"], results.pop("img_bytes", None)
        damage: list[str] = []
        turn = self.exif != "ignore"
        try:
            if content is None:
                image = read_image(path, self.backend_args, turn, damage.append)
            else:
                image = decode_image(content, turn, damage.append)
        except InputError as error:
            raise InputError(f"{path} {UNREADABLE}{error}") from None
        if "damage" in results:
            results["damage"] = damage[0] if damage else None
        elif damage and self._said.is_new(str(path)):
            text = f"{path} is damaged ({damage[0]}): what could be decoded of it is used. "
            text += "Copy the file anew, or leave it out"
            print_log(printable(text), "current", logging.WARNING)
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(backend_args={self.backend_args}, exif={self.exif!r})"


@TRANSFORMS.register_module(name=["LoadImageFromNDArray", "InferencerLoader"])
class LoadImageFromNDArray(LoadImageFromFile):
    """Take the pixels that somebody has loaded, or load the file as :class:`LoadImageFromFile`.

    Args:
        backend_args (dict, optional): Arguments of mmengine's file backend. Defaults to None.
        exif (str, optional): See there. Defaults to None.
    """

    def transform(self, results: str | np.ndarray | dict) -> dict:
        """Give a sample with its image.

        Args:
            results (str | np.ndarray | dict): A path; pixels, BGR; or a sample with ``img_path`` or
                with ``img``.

        Raises:
            InputError: If a file cannot be read, or the pixels are of no image.
        """
        if isinstance(results, (str, Path)):
            results = {"img_path": str(results)}
        elif isinstance(results, np.ndarray):
            results = {"img": results}
        if "img" not in results:
            return super().transform(results)
        image = to_bgr(results["img"])
        shape = image.shape[:2]
        return {"img_path": None} | results | dict(img=image, img_shape=shape, ori_shape=shape)


def image_loader(pipeline: Iterable[Any]) -> Callable[[dict], dict]:
    """Find or build the transform by which a pipeline loads images from files.

    Args:
        pipeline (Iterable): Transforms, or their settings, in the scope that is current; those that
            others run are found, too.

    Returns:
        Callable: The transform; :class:`LoadImageFromFile` where the pipeline has none.
    """
    for step in all_steps(pipeline):
        if loads_image(step):
            return MMENGINE_TRANSFORMS.build(step) if isinstance(step, Mapping) else step
    return LoadImageFromFile()


def content_loader(pipeline: Iterable[Any]) -> LoadImageFromFile:
    """Find the transform by which a pipeline loads images that are in no files of their own.

    Args:
        pipeline (Iterable): Transforms, built.

    Raises:
        InputError: It is one that reads files alone.
    """
    loader = image_loader(pipeline)
    if not isinstance(loader, LoadImageFromFile):
        name = f"{type(loader).__module__}.{type(loader).__name__}"
        raise InputError(
            f"the pipeline loads images by {name}, which reads files, and here "
            "they have none of their own: have "
            'dict(type="LoadImageFromFile", _scope_="mmbeit3") in its place'
        )
    return loader


def all_steps(pipeline: Iterable[Any]) -> Iterator[Any]:
    """The steps of a pipeline, each followed by those that it runs itself, its ``transforms``."""
    for step in pipeline:
        if isinstance(step, (list, tuple)):  # a branch
            yield from all_steps(step)
            continue
        yield step
        is_config = isinstance(step, Mapping)
        inner = step.get("transforms") if is_config else getattr(step, "transforms", None)
        if isinstance(inner, Iterable):
            yield from all_steps(inner)


def loads_image(step: Any) -> bool:
    """Whether a transform, or the settings of one, loads an image from a file."""
    kind = step["type"] if isinstance(step, Mapping) else type(step)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    name = name.rpartition(".")[2]
    return name.startswith("Load") and "Image" in name and name != NOT_FROM_FILE


def load_image(loader: Callable[[dict], dict], results: dict) -> dict:
    """Load an image as a data set does; whatever is wrong with the file is an ``InputError``.

    Args:
        loader (Callable): What :func:`image_loader` returned.
        results (dict): The key ``img_path``, and any others.

    Returns:
        dict: What the loader made of it: ``img`` (H, W, C), ``img_shape``, ``ori_shape``.

    Raises:
        InputError: If the file cannot be read; the message is the reason, without the path.
    """
    path = results["img_path"]
    try:
        loaded = loader(dict(results))
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path} {UNREADABLE}")) from None
    except Exception as error:
        reason: Exception | None = error
    else:
        if loaded is not None:
            return loaded
        reason = None  # it leaves out what it cannot load
    read_image(path, getattr(loader, "backend_args", None))  # says why, if there is a reason
    name = type(loader).__name__
    text = f" ({type(reason).__name__}: {reason})" if str(reason or "") else ""
    raise InputError(
        f"the pipeline's {name} cannot load it{text}, but mmbeit3.LoadImageFromFile can: have "
        'dict(type="LoadImageFromFile", _scope_="mmbeit3") in every pipeline'
    )


def picture_of(loader: Callable[[dict], dict] | None, image: np.ndarray) -> np.ndarray:
    """Make what a loader has loaded a picture to draw on.

    Args:
        loader (Callable, optional): The transform.
        image (np.ndarray): The ``img`` that it gave.

    Returns:
        np.ndarray: (H, W, 3), BGR, uint8.
    """
    return getattr(loader, "picture", to_bgr)(image)


def load_bgr(loader: Callable[[dict], dict], path: str) -> np.ndarray:
    """Load an image as a data set does, to draw on it.

    Args:
        loader (Callable): What :func:`image_loader` returned.
        path (str): The file.

    Returns:
        np.ndarray: (H, W, 3), BGR, uint8.

    Raises:
        InputError: As :func:`load_image`.
    """
    return picture_of(loader, load_image(loader, {"img_path": path, "damage": None})["img"])
