"""What comes back for an image: a prediction, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from mmbeit3.inference.image_list import Source
from mmbeit3.utils import InputError
from mmbeit3.utils.image_reading import CHANNELS
from mmbeit3.utils.large_images import Georeference
from mmbeit3.visualization.pictures import write_picture


@dataclass(repr=False)
class Failed:
    """An image that gave no result.

    Attributes:
        source (Source): The image.
        reason (str): What is wrong with it.
    """

    source: Source
    reason: str

    @property
    def error(self) -> str:
        """The image and the reason, in one line; ``None`` in a result."""
        return f"{self.source.file_name}: {self.reason}"

    @property
    def path(self) -> str | None:
        """The file or address; None for an array."""
        return self.source.location

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("source", "reason"):
            raise AttributeError(name)
        raise AttributeError(
            f"there is no {name!r} of an image that failed ({self.error}); leave out results whose "
            "`error` is not None"
        )

    def __repr__(self) -> str:
        return f"Failed({self.error})"


@dataclass(eq=False, repr=False)
class Predicted:
    """What a model found in an image, as NumPy arrays.

    Attributes:
        source (Source): The image, as the run that it belongs to knows it.
        image (np.ndarray): Its pixels, (H, W, 3), BGR, uint8.
        damage (str, optional): What is wrong with a file that was decoded in part. Defaults to
            None.
        georeference (Georeference, optional): Where an image that was read by tiles lies. Defaults
            to None.
    """

    source: Source
    image: np.ndarray
    damage: str | None = field(default=None, kw_only=True)
    georeference: Georeference | None = field(default=None, kw_only=True)
    #: None, as opposed to that of :class:`Failed`.
    error: ClassVar[None] = None

    @property
    def nbytes(self) -> int:
        """Memory of the large arrays."""
        return self.image.nbytes

    @property
    def path(self) -> str | None:
        """The file or address; None for an array."""
        return self.source.location

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[:2]

    @property
    def frame(self) -> int | None:
        """The number of the frame in its video, from 0; None for an image."""
        return self.source.frame

    def draw(self, *, channels: str = "bgr") -> np.ndarray:
        """Return the image; tasks draw on it what was found.

        Args:
            channels (str): 'bgr' or 'rgb'. Defaults to 'bgr'.

        Returns:
            np.ndarray: The picture, (h, w, 3), uint8.
        """
        return in_order(self.image, channels)

    def save(self, path: str | Path, **options: Any) -> None:
        """Write the picture that :meth:`draw` makes.

        Args:
            path (str | Path): A ``.jpg`` or ``.png`` file; folders are made.
            **options: Those of :meth:`draw`.

        Raises:
            InputError: The file has another suffix, or cannot be written.
        """
        write_picture(Path(path), self.draw(**options))

    def _repr_png_(self) -> bytes:
        """Show the picture in a notebook."""
        return cv2.imencode(".png", self.draw())[1].tobytes()

    def _facts(self) -> dict[str, Any]:
        """What JSON says of every image, whatever its task."""
        height, width = self.size
        facts = {"path": self.path, "frame": self.frame, "height": height, "width": width}
        return facts | {"damage": self.damage}


def reason_of(error: Exception) -> str:
    """Say what was wrong with an image, in one line."""
    if isinstance(error, InputError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, cv2.error) and "inv_scale" in text:
        return "it is too narrow: at the size to which the config resizes it, a side has no pixel"
    return f"{type(error).__name__}: {text}"


def all_found(items: Iterable[Any]) -> list[Any]:
    """List results, none of which may be a :class:`Failed`.

    Raises:
        InputError: One is, or there is none.
    """
    found = list(items)
    if not found:
        raise InputError("there are no images; expected one or more")
    for item in found:
        if item.error is not None:
            raise InputError(item.error)
    return found


def in_order(picture: np.ndarray, channels: str) -> np.ndarray:
    """Give a BGR picture the order of channels that was asked for.

    Raises:
        InputError: There is no such order.
    """
    check_channels(channels)
    return picture if channels == "bgr" else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def check_channels(channels: str) -> None:
    """Refuse an order of channels that is none.

    Raises:
        InputError: It is neither 'bgr' nor 'rgb'.
    """
    if channels not in CHANNELS:
        raise InputError(f"channels is {channels!r}; expected 'bgr' (as OpenCV) or 'rgb'")
