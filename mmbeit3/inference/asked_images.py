"""Images with a text that is asked or stated about them, as sources of a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any

from mmbeit3.inference.image_list import Source
from mmbeit3.utils import InputError

KEPT = 4  # images, whose questions the threads of a run are at


class LastImages:
    """Reads images for threads, each once for questions that follow each other.

    The last ones are kept, and no others: questions of a table may come in any order, and those
    about one image may be divided over processes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._samples: dict[str, Future[dict[str, Any]]] = {}

    def __reduce__(self) -> tuple[type[LastImages], tuple[()]]:
        return LastImages, ()  # another process reads its own

    def load(self, image: Source, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read an image, known by its name, as :meth:`Source.load`; the pixels are a copy."""
        with self._lock:
            is_new = image.file_name not in self._samples
            sample = self._samples.setdefault(image.file_name, Future())
            if len(self._samples) > KEPT:
                del self._samples[next(iter(self._samples))]
        if is_new:
            try:
                sample.set_result(image.load(loader))
            except BaseException as error:
                sample.set_exception(error)
        found = sample.result()
        return found | {"img": found["img"].copy()}  # a transform may write into it


@dataclass(frozen=True, eq=False)
class AskedSource(Source):
    """One image with a question, or several with a statement.

    Args:
        images (tuple[Source, ...]): The images. Defaults to none.
        text (str): The question or statement. Defaults to "".
        last (LastImages, optional): What reads images that others are asked about, too. Defaults
            to None.
    """

    images: tuple[Source, ...] = ()
    text: str = ""
    last: LastImages | None = None

    @classmethod
    def of(
        cls, number: int, images: tuple[Source, ...], text: str, last: LastImages | None = None
    ) -> AskedSource:
        """Ask about images.

        Args:
            number (int): The number of the question in its run, from 1.
            images (tuple[Source, ...]): The images.
            text (str): The question or statement.
            last (LastImages, optional): See the class. Defaults to None.
        """
        name = ", ".join(image.file_name for image in images)
        first = images[0]
        return cls(number, first.path, name, first.overlay, images=images, text=text, last=last)

    @property
    def location(self) -> str | None:
        """The path or address of the first image; None if there is none."""
        return self.images[0].location

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read the images; ``img`` of several is a list. See :meth:`Source.load`."""
        texts = {"texts": [self.text], "text_ids": [self.image_id], "img_id": self.image_id}
        if len(self.images) == 1:
            return self._read(self.images[0], loader) | texts
        samples = [self._read_named(image, loader) for image in self.images]
        keys = ("img", "img_path", "img_shape", "ori_shape")
        together: dict[str, Any] = {key: [sample[key] for sample in samples] for key in keys}
        damages = (
            f"{image.file_name}: {sample['damage']}"
            for image, sample in zip(self.images, samples, strict=True)
            if sample.get("damage")
        )
        return together | texts | {"damage": next(damages, None)}

    def _read(self, image: Source, loader: Callable[[dict], dict]) -> dict[str, Any]:
        return self.last.load(image, loader) if self.last else image.load(loader)

    def _read_named(self, image: Source, loader: Callable[[dict], dict]) -> dict[str, Any]:
        try:
            return self._read(image, loader)
        except InputError as error:
            raise InputError(f"{image.file_name}: {error}") from error
