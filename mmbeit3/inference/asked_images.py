"""Images with a text that is asked or stated about them, as sources of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmbeit3.inference.image_list import Source
from mmbeit3.utils import InputError


@dataclass(frozen=True, eq=False)
class AskedSource(Source):
    """One image with a question, or several with a statement.

    Args:
        images (tuple[Source, ...]): The images. Defaults to none.
        text (str): The question or statement. Defaults to "".
    """

    images: tuple[Source, ...] = field(default=())
    text: str = ""

    @classmethod
    def of(cls, number: int, images: tuple[Source, ...], text: str) -> AskedSource:
        """Ask about images.

        Args:
            number (int): The number of the question in its run, from 1.
            images (tuple[Source, ...]): The images.
            text (str): The question or statement.
        """
        name = ", ".join(image.file_name for image in images)
        first = images[0]
        return cls(number, first.path, name, first.overlay, images=images, text=text)

    @property
    def location(self) -> str | None:
        """The path or address of the first image; None if there is none."""
        return self.images[0].location

    def load(self, loader: Callable[[dict], dict]) -> dict[str, Any]:
        """Read the images; ``img`` of several is a list. See :meth:`Source.load`."""
        texts = {"texts": [self.text], "text_ids": [self.image_id], "img_id": self.image_id}
        if len(self.images) == 1:
            return self.images[0].load(loader) | texts
        samples = [_load(image, loader) for image in self.images]
        keys = ("img", "img_path", "img_shape", "ori_shape")
        together: dict[str, Any] = {key: [sample[key] for sample in samples] for key in keys}
        damages = (
            f"{image.file_name}: {sample['damage']}"
            for image, sample in zip(self.images, samples, strict=True)
            if sample.get("damage")
        )
        return together | texts | {"damage": next(damages, None)}


def _load(image: Source, loader: Callable[[dict], dict]) -> dict[str, Any]:
    try:
        return image.load(loader)
    except InputError as error:
        raise InputError(f"{image.file_name}: {error}") from error
